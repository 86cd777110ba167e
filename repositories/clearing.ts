/** Taking back what makes a folder a repository, so that it can be used again: only what Holdfast made, and only while there is nothing in it. */
import { readdir, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { LOCKS_FOLDER } from '../domain/repository-layout.ts'
import { syncFolder } from './durable-files.ts'
import { errnoOf, onFiles } from './file-errors.ts'
import { readMarkerId } from './marker.ts'
import { MARKER_FILE, RESERVE_FILE, vmsFolder } from './paths.ts'

/**
 * Whether nothing of repository `id` is left in `root`: another's folder is not touched, and one that holds a backup, or anything below its folders,
 * stays as it is. The marker goes last: what was cleared half-way is still known as this repository. Idempotent.
 */
export async function clearRoot(root: string, id: string): Promise<boolean> {
  return onFiles(root, 'clear the folder', async () => {
    const found = await readMarkerId(root)
    if (found === null) return true
    if (found !== id) return false
    // A record that is left keeps the rest; without `vms` it would be a damaged repository.
    for (const folder of [join(root, LOCKS_FOLDER), vmsFolder(root)]) {
      if (!(await removedIfEmpty(folder))) return false
    }
    await rm(join(root, RESERVE_FILE), { force: true })
    await rm(join(root, MARKER_FILE), { force: true })
    await syncFolder(root)
    return true
  })
}

/** Folders of VMs without a backup in them count for nothing. */
async function removedIfEmpty(folder: string): Promise<boolean> {
  try {
    for (const name of await readdir(folder)) await rmdir(join(folder, name))
    await rmdir(folder)
    return true
  } catch (error) {
    const errno = errnoOf(error) ?? ''
    if (errno === 'ENOENT') return true
    if (occupied.has(errno)) return false
    throw error
  }
}

const occupied = new Set(['ENOTEMPTY', 'EEXIST', 'ENOTDIR', 'EPERM'])
