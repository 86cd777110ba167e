/**
 * Folders opened name by name, each below the descriptor of the one above it: no link is followed, nothing can be exchanged on the way, and no
 * path grows too long for the kernel. The last few stay open, because whoever reads one file of a folder soon reads the next.
 */
import { constants } from 'node:fs'
import { lstat, open, type FileHandle } from 'node:fs/promises'
import { nameToBytes } from '../file-names.ts'

/** Only a place to step from: needs no right to read the folder. Node does not name it; from the kernel's asm-generic/fcntl.h. */
const O_PATH = 0o10000000
const STEP = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW

interface HeldFolder {
  handle: FileHandle
  users: number
  kept: boolean
}

/** A failure of a path, as the kernel would have told it. */
export class PathError extends Error {
  readonly errno: number

  /** `errno`: positive, as in `file-errors.ts`. */
  constructor(errno: number) {
    super(`error ${errno}`)
    this.errno = errno
  }
}

export class HeldFolders {
  readonly #root: string
  readonly #most: number
  /** By path, the one used last at the end. */
  readonly #kept = new Map<string, HeldFolder>()
  #closed = false

  /** `root`: absolute path of a folder of this host. `most`: folders that stay open while nobody uses them. */
  constructor(root: string, most: number) {
    this.#root = root
    this.#most = most
  }

  /**
   * Calls `work` with the beginning of the paths of this folder's entries, as {@link entryPath} wants it. Rejects with the kernel's errors, and
   * {@link PathError} `ELOOP` for a link on the way.
   */
  async use<T>(path: string, work: (folder: string) => Promise<T>): Promise<T> {
    const folder = await this.#hold(path)
    try {
      return await work(`/proc/self/fd/${folder.handle.fd}/`)
    } finally {
      await this.#release(folder)
    }
  }

  /** Closes what nobody uses now, and the rest as soon as nobody does. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#kept.keys()].map((path) => this.#forget(path)))
  }

  async #hold(path: string): Promise<HeldFolder> {
    const names = path === '' ? [] : path.split('/')
    let { folder, depth } = await this.#nearest(path)
    // Nobody waits for a folder to be closed before stepping on: ways may be long.
    const closing: Promise<void>[] = []
    try {
      for (; depth < names.length; depth++) {
        const below = await openBelow(folder, names[depth]!)
        closing.push(this.#release(folder))
        folder = below
      }
    } catch (error) {
      closing.push(this.#release(folder))
      throw error
    } finally {
      await Promise.all(closing)
    }
    await this.#keep(path, folder)
    return folder
  }

  /** The deepest folder above `path` that is open already, in use from now on. */
  async #nearest(path: string): Promise<{ folder: HeldFolder; depth: number }> {
    let nearest: [path: string, folder: HeldFolder] | null = null
    for (const [above, folder] of this.#kept) {
      const leadsThere = above === '' || path === above || path.startsWith(`${above}/`)
      if (leadsThere && (nearest === null || above.length > nearest[0].length)) nearest = [above, folder]
    }
    if (nearest === null) return { folder: { handle: await open(this.#root, STEP), users: 1, kept: false }, depth: 0 }
    const [above, folder] = nearest
    folder.users++
    return { folder, depth: above === '' ? 0 : above.split('/').length }
  }

  async #keep(path: string, folder: HeldFolder): Promise<void> {
    const known = this.#kept.get(path)
    if (this.#closed || (known && known !== folder)) return
    this.#kept.delete(path)
    this.#kept.set(path, folder)
    folder.kept = true
    const [oldest] = this.#kept.keys()
    if (this.#kept.size > this.#most && oldest !== undefined) await this.#forget(oldest)
  }

  async #forget(path: string): Promise<void> {
    const folder = this.#kept.get(path)
    if (!folder) return
    this.#kept.delete(path)
    folder.kept = false
    if (folder.users === 0) await folder.handle.close()
  }

  async #release(folder: HeldFolder): Promise<void> {
    folder.users--
    if (folder.users === 0 && !folder.kept) await folder.handle.close()
  }
}

/** The path of an entry, for calls that do not follow links. `PathError` `ENOENT` for names that no entry can have. */
export function entryPath(folder: string, name: string): Buffer {
  if (name === '' || name === '.' || name === '..' || name.includes('\0') || name.includes('/')) throw new PathError(ENOENT)
  return Buffer.concat([Buffer.from(folder), nameToBytes(name)])
}

const ENOENT = 2
const ELOOP = 40

async function openBelow(folder: HeldFolder, name: string): Promise<HeldFolder> {
  const path = entryPath(`/proc/self/fd/${folder.handle.fd}/`, name)
  try {
    return { handle: await open(path, STEP), users: 1, kept: false }
  } catch (error) {
    // The kernel calls a link "not a folder" here.
    const link = await lstat(path).then(
      (found) => found.isSymbolicLink(),
      () => false,
    )
    throw link ? new PathError(ELOOP) : error
  }
}
