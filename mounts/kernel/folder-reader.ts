/** Reads files below folders of this host, where a kernel or a FUSE program has mounted the file systems of a disk. */
import { errno, fileError, problemOf } from '../file-errors.ts'
import { nameFromBytes } from '../file-names.ts'
import type { ByteRange, Entry, EntryPage, FileReader, FileStatus } from '../file-reader.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { Volume } from '../../domain/restore-mount.ts'
import { FilePieces, openRegular } from './file-pieces.ts'
import { readStatus } from './file-status.ts'
import { FolderNames } from './folder-names.ts'
import { entryPath, HeldFolders, PathError } from './held-folders.ts'
import { untilAborted } from '../until-aborted.ts'

const FOLDERS_KEPT = 16
const NAMES_KEPT = 400_000
/** Node has four threads for files. */
const LOOKS_AT_ONCE = 8

/** A volume and the absolute path of the folder where it is mounted. Volumes that cannot be read have none. */
export interface FolderVolume {
  volume: Volume
  folder: string | null
}

/** What keeps the file systems there. */
export interface FolderKeeper {
  /** Settles with the reason when they are gone. */
  failed: Promise<HoldfastError>
  /** Asked after an error that a dead disk and a damaged one have in common. */
  isGone(): Promise<boolean>
}

/** The folders must be there. With a `keeper` that is gone, everything ends with `MOUNT_INTERRUPTED`. */
export function createFolderReader(volumes: readonly FolderVolume[], keeper?: FolderKeeper): FileReader {
  return new FolderReader(volumes, keeper)
}

class FolderReader implements FileReader {
  readonly volumes: readonly Volume[]
  readonly failed: Promise<HoldfastError>
  readonly #keeper: FolderKeeper | undefined
  readonly #folders = new Map<string, HeldFolders>()
  readonly #names = new FolderNames(NAMES_KEPT)
  readonly #ending = new AbortController()
  /** What may still hold a descriptor. */
  readonly #running = new Set<Promise<unknown>>()
  readonly #open = new Set<FilePieces>()

  constructor(volumes: readonly FolderVolume[], keeper: FolderKeeper | undefined) {
    this.volumes = volumes.map(({ volume }) => volume)
    for (const { volume, folder } of volumes) {
      if (folder !== null) this.#folders.set(volume.id, new HeldFolders(folder, FOLDERS_KEPT))
    }
    this.#keeper = keeper
    this.failed = keeper?.failed ?? new Promise(() => undefined)
    void this.failed.then((reason) => this.#end(reason))
  }

  list(volume: Volume, path: string, page: { first: number; most: number }, signal?: AbortSignal): Promise<EntryPage> {
    return this.#run(path, signal, () =>
      this.#foldersOf(volume).use(path, async (folder) => {
        const names = await this.#names.read(`${volume.id}\0${path}`, folder)
        const wanted = names.slice(page.first, page.first + page.most)
        return { total: names.length, entries: await this.#look(folder, wanted, signal) }
      }),
    )
  }

  status(volume: Volume, path: string, signal?: AbortSignal): Promise<FileStatus> {
    return this.#run(path, signal, () => {
      const folders = this.#foldersOf(volume)
      if (path === '') return folders.use('', (folder) => readStatus(Buffer.from(`${folder}.`)))
      const { parent, name } = split(path)
      return folders.use(parent, (folder) => readStatus(entryPath(folder, name)))
    })
  }

  async *read(volume: Volume, path: string, range: ByteRange, signal?: AbortSignal): AsyncIterableIterator<Uint8Array> {
    const pieces = await this.#run(path, signal, () => this.#openFile(volume, path, range), closeLate)
    const release = (): void => void this.#release(pieces)
    this.#open.add(pieces)
    // Whoever aborts, or closes the reader, may never ask for the next piece.
    signal?.addEventListener('abort', release, { once: true })
    try {
      for (;;) {
        const piece = await this.#run(path, signal, () => pieces.take())
        if (piece === null) return
        yield piece
      }
    } finally {
      signal?.removeEventListener('abort', release)
      release()
    }
  }

  async close(): Promise<void> {
    this.#end(interrupted('The mount was closed.'))
    while (this.#running.size > 0) await Promise.allSettled(this.#running)
    await Promise.all([...this.#folders.values()].map((folders) => folders.close()))
  }

  #end(reason: HoldfastError): void {
    if (!this.#ending.signal.aborted) this.#ending.abort(reason)
    for (const pieces of this.#open) void this.#release(pieces)
  }

  #release(pieces: FilePieces): Promise<void> {
    this.#open.delete(pieces)
    return this.#track(pieces.close())
  }

  #foldersOf(volume: Volume): HeldFolders {
    const folders = this.#folders.get(volume.id)
    if (!folders) throw new PathError(errno.ENOENT)
    return folders
  }

  async #openFile(volume: Volume, path: string, range: ByteRange): Promise<FilePieces> {
    if (path === '') throw new PathError(errno.EISDIR)
    const { parent, name } = split(path)
    const { handle, sizeBytes } = await this.#foldersOf(volume).use(parent, (folder) => openRegular(entryPath(folder, name)))
    return new FilePieces(handle, sizeBytes, range)
  }

  async #look(folder: string, names: readonly string[], signal: AbortSignal | undefined): Promise<Entry[]> {
    const entries: Entry[] = []
    let next = 0
    const isWanted = (): boolean => signal?.aborted !== true && !this.#ending.signal.aborted
    const worker = async (): Promise<void> => {
      while (next < names.length && isWanted()) {
        const at = next++
        entries[at] = await this.#entry(folder, Buffer.from(names[at]!, 'latin1'))
      }
    }
    const ended = await Promise.allSettled(Array.from({ length: LOOKS_AT_ONCE }, worker))
    for (const one of ended) if (one.status === 'rejected') throw one.reason
    return entries
  }

  async #entry(folder: string, name: Buffer): Promise<Entry> {
    try {
      const status = await readStatus(Buffer.concat([Buffer.from(folder), name]))
      return { name: nameFromBytes(name), status, problem: null }
    } catch (error) {
      const number = errnoOf(error)
      if (number === null || (await this.#isGone(number))) throw error
      return { name: nameFromBytes(name), status: null, problem: problemOf(number) }
    }
  }

  /**
   * Ends with the abort's reason as soon as there is one, although calls of the kernel cannot be called back; `late` then gets what still came of
   * it. Turns what the kernel said into our errors.
   */
  async #run<T>(
    path: string,
    signal: AbortSignal | undefined,
    work: () => Promise<T>,
    late?: (result: T) => Promise<void>,
  ): Promise<T> {
    const signals = signal ? [this.#ending.signal, signal] : [this.#ending.signal]
    for (const ending of signals) ending.throwIfAborted()
    const running = this.#track(Promise.resolve().then(work))
    try {
      return await untilAborted(running, signals)
    } catch (error) {
      const ended = signals.find(({ aborted }) => aborted)
      if (!ended) throw await this.#told(error, path)
      if (late) void this.#track(running.then(late, () => undefined))
      throw ended.reason
    }
  }

  async #told(error: unknown, path: string): Promise<unknown> {
    const number = errnoOf(error)
    if (number === null) return error
    if (await this.#isGone(number)) return interrupted('What the mount reads from has ended.', error)
    return fileError(number, path)
  }

  async #isGone(number: number): Promise<boolean> {
    return number !== errno.ENOENT && this.#keeper !== undefined && (await this.#keeper.isGone())
  }

  #track<T>(running: Promise<T>): Promise<T> {
    this.#running.add(running)
    const forget = (): void => void this.#running.delete(running)
    running.then(forget, forget)
    return running
  }
}

function closeLate(pieces: FilePieces): Promise<void> {
  return pieces.close()
}

function split(path: string): { parent: string; name: string } {
  const slash = path.lastIndexOf('/')
  return { parent: path.slice(0, Math.max(0, slash)), name: path.slice(slash + 1) }
}

/** Positive; `null` for what is no answer of the kernel. */
function errnoOf(error: unknown): number | null {
  if (error instanceof PathError) return error.errno
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number' ? -error.errno : null
}

function interrupted(what: string, cause?: unknown): HoldfastError {
  return new HoldfastError('MOUNT_INTERRUPTED', `${what} Try again.`, { cause })
}
