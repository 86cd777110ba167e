import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'

/** `ELOOP`: a link. `ENXIO`: a socket, or a device that is not there. */
const otherKinds = new Set(['ELOOP', 'ENXIO'])

/**
 * Opens a file of a repository for reading; `null` when something else has its name. A link could lead out of the repository, and a
 * named pipe would block for ever. Throws what the file system throws, `ENOENT` included.
 */
export async function openRegularFile(path: string): Promise<FileHandle | null> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && otherKinds.has(String(error.code))) return null
    throw error
  })
  if (file === null) return null
  try {
    if ((await file.stat()).isFile()) return file
  } catch (error) {
    await file.close()
    throw error
  }
  await file.close()
  return null
}
