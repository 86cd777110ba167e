/** Repositories that a mover mounts when it starts. */
import { shareTypes } from '../../domain/repository-place.ts'
import type { RepositoryRecord } from '../../domain/repository-place.ts'
import type { Catalog } from '../client.ts'

/** Those on shares of this host that an administrator enabled and wants mounted at once. */
export async function autoMountedRepositories(catalog: Catalog, hostId: string): Promise<RepositoryRecord[]> {
  return catalog
    .selectFrom('backup_repositories')
    .select(['id', 'repository_type as type', 'config', 'credentials_id as credentialsId'])
    .where('host_id', '=', hostId)
    .where('enabled', '=', true)
    .where('auto_mount', '=', true)
    .where('repository_type', 'in', shareTypes)
    .execute()
}
