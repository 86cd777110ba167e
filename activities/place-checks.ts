/** What only a mover can say about a place that is to be a repository's. */
import type { Catalog } from '../db/client.ts'
import { findRepository, localRepositoriesOf } from '../db/queries/repositories.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { HostedRepository } from '../hosting/hosted-repository.ts'
import { oneLiesWithin } from '../hosting/nested-folders.ts'
import type { RepositoryRequest } from '../temporal/operations.ts'

type Wanted = Pick<RepositoryRequest, 'repositoryId' | 'type' | 'hostId' | 'config'>

/** Behind links and bound mounts, too; what the configurations alone say, the catalog has compared. `REPO_INVALID` */
export async function refuseNestedFolders(catalog: Catalog, { repositoryId, type, hostId, config }: Wanted): Promise<void> {
  const { path } = config
  if (type !== 'local' || typeof path !== 'string') return
  for (const { id, name, config: other } of await localRepositoriesOf(catalog, hostId)) {
    if (id === repositoryId || typeof other['path'] !== 'string' || !(await oneLiesWithin(path, other['path']))) continue
    throw new HoldfastError(
      'REPO_INVALID',
      `"${path}" and the folder of repository "${name}" lie in each other, through a link or a mount: choose another folder.`,
      { details: { path, repository_id: id } },
    )
  }
}

/** What registering it would find; that a registered repository lies there is none of it. `REPO_INVALID` */
export async function refuseUnlessUsable(
  catalog: Catalog,
  repository: Pick<HostedRepository, 'readIdentity' | 'checkFree'>,
  id: string,
): Promise<void> {
  const found = await repository.readIdentity()
  if (found === null) return repository.checkFree()
  // A registration has made it its own by the time that it is asked again.
  if (found === id || (await findRepository(catalog, found))) return
  throw new HoldfastError(
    'REPO_INVALID',
    `Repository "${found}" of another installation of Holdfast lies there: use an empty folder or share.`,
    { details: { found_repository_id: found } },
  )
}
