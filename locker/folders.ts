/**
 * Folders and files by handle, never by path: each name is opened inside the handle of its folder, without following a link and without
 * leaving the mount. Whoever may rename folders meanwhile cannot lead the locker to another file.
 */
import { constants } from 'node:fs'
import { open, readFile, readdir } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { isAbsolute, normalize } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import { errnoOf } from '../domain/system-errno.ts'

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants

export interface Folder {
  /** For messages only. */
  path: string
  /** Names this very folder, whatever its path names by now. */
  handlePath: string
  device: bigint
  inode: bigint
  mountId: string
  /** Makes its names and flags durable. */
  sync(): Promise<void>
  /** Sets its time of modification, which nobody can change once it is immutable. Milliseconds since 1970. */
  setModified(atMs: number): Promise<void>
}

/** Works in the folder at `path`. `INVALID_REQUEST` unless absolute and normalized; `REPO_UNAVAILABLE` when there is none. */
export async function inRoot<T>(path: string, work: (root: Folder) => Promise<T>): Promise<T> {
  if (!isAbsolute(path) || normalize(path) !== path || path.includes('\0')) {
    throw new HoldfastError('INVALID_REQUEST', `"${path}" is not a plain absolute path.`)
  }
  const handle = await open(path, O_RDONLY | O_DIRECTORY).catch((cause: unknown) => {
    throw new HoldfastError('REPO_UNAVAILABLE', `There is no folder ${path} (${errnoOf(cause)}).`, { cause })
  })
  return using(handle, path, null, work)
}

/** Works in a folder's folder; with `null` when there is none of this name. `LOCK_FAILED` when it is a link, a file or another mount. */
export async function inFolder<T>(parent: Folder, name: string, work: (folder: Folder | null) => Promise<T>): Promise<T> {
  const path = `${parent.path}/${name}`
  const handle = await openInside(parent, name, O_RDONLY | O_DIRECTORY)
  return handle === null ? work(null) : using(handle, path, parent, work)
}

/** A file's handle, for reading; `null` when there is none. `LOCK_FAILED` when it is no regular file of this mount with a single name. */
export async function withFile<T>(folder: Folder, name: string, work: (file: FileHandle | null) => Promise<T>): Promise<T> {
  // A pipe must not make us wait for its other end.
  const handle = await openInside(folder, name, O_RDONLY | O_NONBLOCK)
  if (handle === null) return work(null)
  try {
    const { nlink, dev } = await handle.stat({ bigint: true })
    const isPlain = (await handle.stat()).isFile() && nlink === 1n && dev === folder.device
    // A file with a second name, or mounted over this one, belongs to somebody else too.
    if (!isPlain || (await mountIdOf(handle)) !== folder.mountId) {
      throw new HoldfastError('LOCK_FAILED', `${folder.path}/${name} is not a plain file of its own.`, { retryable: false })
    }
    return await work(handle)
  } finally {
    await handle.close()
  }
}

/** Names in the folder, sorted. */
export async function namesIn(folder: Folder): Promise<string[]> {
  return (await readdir(folder.handlePath)).sort()
}

async function openInside(folder: Folder, name: string, flags: number): Promise<FileHandle | null> {
  // Names are checked by those who form them; this is the last line.
  if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name)) {
    throw new HoldfastError('INVALID_REQUEST', `"${name}" is not a name.`)
  }
  try {
    return await open(`${folder.handlePath}/${name}`, flags | O_NOFOLLOW)
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return null
    throw new HoldfastError('LOCK_FAILED', `${folder.path}/${name} cannot be opened (${errnoOf(cause)}).`, {
      cause,
      retryable: !['ELOOP', 'ENOTDIR'].includes(errnoOf(cause) ?? ''),
    })
  }
}

async function using<T>(
  handle: FileHandle,
  path: string,
  parent: Folder | null,
  work: (folder: Folder) => Promise<T>,
): Promise<T> {
  try {
    const { dev, ino } = await handle.stat({ bigint: true })
    const mountId = await mountIdOf(handle)
    if (parent !== null && mountId !== parent.mountId) {
      throw new HoldfastError('LOCK_FAILED', `${path} is a mount point: a repository is one file system.`, { retryable: false })
    }
    const sync = (): Promise<void> => handle.sync()
    const setModified = (atMs: number): Promise<void> => handle.utimes(atMs / 1000, atMs / 1000)
    return await work({ path, handlePath: `/proc/self/fd/${handle.fd}`, device: dev, inode: ino, mountId, sync, setModified })
  } finally {
    await handle.close()
  }
}

/** Differs between two mounts even of one file system, where the device does not. */
async function mountIdOf(handle: FileHandle): Promise<string> {
  const text = await readFile(`/proc/self/fdinfo/${handle.fd}`, 'utf8')
  return /^mnt_id:\s*(\d+)$/m.exec(text)?.[1] ?? ''
}
