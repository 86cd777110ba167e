/** Whether a restore may write to a place, by its text alone: links, and whether it exists, are for the mover to see. */
import type { Catalog } from '../db/client.ts'
import { localRepositoriesOf } from '../db/queries/repositories.ts'
import { HoldfastError } from '../domain/errors.ts'
import { liesIn } from '../domain/repository-overlap.ts'
import { isNormalAbsolutePath } from './host-paths.ts'

/** `path`: of a file, or of the folder for several. `RESTORE_TARGET_INVALID`. */
export async function checkRestoreTarget(catalog: Catalog, hostId: string, path: string): Promise<void> {
  if (!isNormalAbsolutePath(path)) {
    throw new HoldfastError(
      'RESTORE_TARGET_INVALID',
      'The target must be an absolute path without "..", ".", "//", control characters or a slash at the end.',
    )
  }
  for (const repository of await localRepositoriesOf(catalog, hostId)) {
    const { path: folder } = repository.config
    if (typeof folder !== 'string' || !liesIn(path, folder)) continue
    throw new HoldfastError(
      'RESTORE_TARGET_INVALID',
      `The target lies inside repository "${repository.name}": choose a place outside.`,
      { details: { repository_id: repository.id } },
    )
  }
}
