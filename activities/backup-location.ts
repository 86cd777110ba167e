/** Where a backup of the catalog lies, as adapters see it. */
import type { Selectable } from 'kysely'
import type { BackupWork } from '../db/queries/backup-records.ts'
import type { BackupRepositoriesTable } from '../db/schema.ts'
import { vmFolderName } from '../domain/ids.ts'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import type { HostedRepository } from '../hosting/hosted-repository.ts'
import type { BackupReference } from '../repositories/repository.ts'
import type { HostDependencies } from './host-dependencies.ts'

export interface BackupLocation {
  repository: HostedRepository
  reference: BackupReference
}

/** The VM's folder is named when its first backup is recorded and kept in each backup's row, so renaming a VM moves nothing. */
export function locateBackup(
  { job, repository }: BackupWork,
  { repositories }: Pick<HostDependencies, 'repositories'>,
): BackupLocation {
  return {
    repository: repositories.open(repositoryRecord(repository)),
    reference: { ...referenceIn(job.repository_path), backupId: job.id },
  }
}

/** A row of the catalog as repositories are opened by. */
export function repositoryRecord(
  row: Pick<Selectable<BackupRepositoriesTable>, 'id' | 'repository_type' | 'config' | 'credentials_id'>,
): RepositoryRecord {
  const { id, repository_type: type, config, credentials_id: credentialsId } = row
  return { id, type, config, credentialsId }
}

/** `vms/<vm folder>/<backup id>`, relative to the repository's root. */
export function repositoryPathOf(vmName: string, vmContextId: string, backupId: string): string {
  return `vms/${vmFolderName(vmName, vmContextId)}/${backupId}`
}

/** The names in what {@link repositoryPathOf} formed. */
export function referenceIn(repositoryPath: string): BackupReference {
  const [, vmFolder = '', backupId = ''] = repositoryPath.split('/')
  return { vmFolder, backupId }
}
