/** All volumes of a mount as one tree of folders. */
import { HoldfastError } from '../domain/errors.ts'
import type { Volume } from '../domain/restore-mount.ts'
import type { ByteRange, Entry, EntryPage, FileReader, FileStatus } from '../mounts/file-reader.ts'
import { describeUnreadable, locate } from './mount-paths.ts'

/** The root above several volumes, which is on no disk. */
const volumesFolder: FileStatus = {
  kind: 'directory',
  mode: 0o555,
  uid: 0,
  gid: 0,
  sizeBytes: 0,
  inode: 0,
  links: 1,
  modifiedSeconds: 0,
  modifiedNanoseconds: 0,
  target: null,
}

/** Paths are those of requests: `/`, `/etc/hosts`. Methods throw what {@link locate} and the reader do. */
export class MountTree {
  readonly #reader: FileReader

  constructor(reader: FileReader) {
    this.#reader = reader
  }

  get volumes(): readonly Volume[] {
    return this.#reader.volumes
  }

  async list(path: string, page: { first: number; most: number }, signal?: AbortSignal): Promise<EntryPage> {
    const place = locate(this.volumes, path)
    if (place.kind === 'inside') return this.#reader.list(place.volume, place.path, page, signal)
    const shown = this.volumes.filter(holdsFiles).sort((a, b) => (a.id < b.id ? -1 : 1))
    const wanted = shown.slice(page.first, page.first + page.most)
    return { total: shown.length, entries: await Promise.all(wanted.map((volume) => this.#volumeEntry(volume, signal))) }
  }

  async status(path: string, signal?: AbortSignal): Promise<FileStatus> {
    const place = locate(this.volumes, path)
    return place.kind === 'volumes' ? volumesFolder : this.#reader.status(place.volume, place.path, signal)
  }

  /** As the reader's `read`. */
  read(path: string, range: ByteRange, signal?: AbortSignal): AsyncIterableIterator<Uint8Array> {
    const place = locate(this.volumes, path)
    if (place.kind === 'inside') return this.#reader.read(place.volume, place.path, range, signal)
    throw new HoldfastError(
      'NOT_A_FILE',
      'The root of the mount is a folder. Download it as an archive, or give the path of a file.',
    )
  }

  async #volumeEntry(volume: Volume, signal: AbortSignal | undefined): Promise<Entry> {
    if (volume.state !== 'readable') return { name: volume.id, status: null, problem: `it is ${describeUnreadable(volume)}` }
    try {
      return { name: volume.id, status: await this.#reader.status(volume, '', signal), problem: null }
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code !== 'FILE_READ_FAILED') throw error
      return { name: volume.id, status: null, problem: error.message }
    }
  }
}

/** What somebody who looks for files should see; swap and parts of other volumes are in the list of volumes only. */
function holdsFiles({ state }: Volume): boolean {
  return state === 'readable' || state === 'encrypted' || state === 'damaged'
}
