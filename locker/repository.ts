/** The folder that a request names, as far as the locker believes in it. */
import { HoldfastError } from '../domain/errors.ts'
import { isBackupId } from '../domain/ids.ts'
import type { LockPlace } from '../domain/lock-protocol.ts'
import { MARKER_FILE, VMS_FOLDER, isVmFolder } from '../domain/repository-layout.ts'
import { exclusively } from './exclusive.ts'
import { inFolder, inRoot, namesIn, withFile } from './folders.ts'
import type { Folder } from './folders.ts'

const MARKER_MAX_BYTES = 64 * 1024

export interface LockedRepository {
  id: string
  root: Folder
}

/**
 * Works in the repository, as the only locker that does. `REPO_UNAVAILABLE` without a marker, `REPO_INVALID` when it names another
 * repository, `LOCK_FAILED` while another one works there.
 */
export function inRepository<T>(
  request: { root: string; repositoryId: string },
  work: (repository: LockedRepository) => Promise<T>,
): Promise<T> {
  const { root: path, repositoryId: id } = request
  return inRoot(path, async (root) => {
    const found = await markerIdOf(root)
    if (found !== id) {
      throw new HoldfastError('REPO_INVALID', `${path} is repository "${found}", not "${id}": nothing was touched.`, {
        details: { path, repository_id: id, found_repository_id: found },
      })
    }
    return exclusively(root, () => work({ id, root }))
  })
}

/** Works in the published folder of a backup; with `null` when there is none. `INVALID_REQUEST` for names that Holdfast does not form. */
export function inBackup<T>(root: Folder, place: LockPlace, work: (backup: Folder | null) => Promise<T>): Promise<T> {
  if (!isVmFolder(place.vmFolder) || !isBackupId(place.backupId)) {
    throw new HoldfastError('INVALID_REQUEST', `"${place.vmFolder}/${place.backupId}" is not a backup of a repository.`)
  }
  return inFolder(root, VMS_FOLDER, async (vms) => {
    if (vms === null) return work(null)
    return inFolder(vms, place.vmFolder, async (vm) => (vm === null ? work(null) : inFolder(vm, place.backupId, work)))
  })
}

/** The files of a backup. `LOCK_FAILED` when anything but plain files lies there. */
export async function filesOf(backup: Folder): Promise<string[]> {
  const names = await namesIn(backup)
  for (const name of names) await withFile(backup, name, async () => undefined)
  return names
}

async function markerIdOf(root: Folder): Promise<string> {
  const text = await withFile(root, MARKER_FILE, async (file) => {
    if (file === null) {
      throw new HoldfastError('REPO_UNAVAILABLE', `${root.path} holds no ${MARKER_FILE}: it is no repository, or not mounted.`)
    }
    const { size } = await file.stat()
    return size > MARKER_MAX_BYTES ? '' : file.readFile('utf8')
  })
  const marker = objectIn(text)
  if (typeof marker['id'] === 'string') return marker['id']
  throw new HoldfastError('REPO_INVALID', `The ${MARKER_FILE} of ${root.path} is damaged.`)
}

/** The members of a JSON object; none when it is anything else. */
export function objectIn(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
  } catch {
    // Who asked takes a missing member for the damage that it is.
    return {}
  }
}
