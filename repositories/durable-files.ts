/** Files and folders that survive a power cut: what was written is on the disk before the next step is taken. */
import { constants } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from './file-errors.ts'

/** Writes a whole file, private to its owner, and fsyncs it. Replaces what was there. A link in its place is refused, not followed. */
export async function writeDurably(path: string, content: string | Uint8Array): Promise<void> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants
  const file = await open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600)
  try {
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
}

export async function syncFile(path: string): Promise<void> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Makes the names inside a folder durable: after a create, a rename or a delete. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await folder.sync()
  } catch (error) {
    // Some network file systems have no fsync for folders: their server answers a rename only when it is durable.
    if (errnoOf(error) !== 'EINVAL') throw error
  } finally {
    await folder.close()
  }
}

/** Every regular file directly inside `folder`, then the folder itself. */
export async function syncFolderWithFiles(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isFile()) await syncFile(join(folder, entry.name))
  }
  await syncFolder(folder)
}
