/** archiver, one entry at a time: the next is taken when the one before has been written and the client has room for more. */
import { Readable } from 'node:stream'
import { TarArchive, ZipArchive } from 'archiver'
import type { Archiver, EntryData, ZipEntryData } from 'archiver'
import type { FileStatus } from '../mounts/file-reader.ts'
import type { ArchiveFormat } from './archive-names.ts'
import { headerDate, tarFields } from './tar-fields.ts'

/** zlib's fastest: what follows costs several times as much and saves little. */
const COMPRESSION = { level: 1 }
/** Written and not yet taken: then entries wait. */
const HELD_MAX_BYTES = 1024 * 1024
/** Deflating anew what is compressed already takes time and saves nothing. */
const compressed =
  /\.(7z|aac|apk|avif|br|bz2|docx|flac|gif|gz|heic|jar|jpe?g|lz4|lzma|m4[av]|mkv|mov|mp[34]|odt|ogg|opus|png|pptx|rar|rpm|deb|tbz2?|tgz|txz|webm|webp|wmv|xlsx|xz|zip|zst)$/i

export interface ArchiveEntry {
  /** From {@link archivePath}. */
  path: string
  type: 'file' | 'directory' | 'symlink'
  status: FileStatus
  /** Of a file: all of it, or a stream of exactly `sizeBytes` (in a zip, at most so many). */
  content: Buffer | Readable
}

export class ArchiveWriter {
  readonly #format: ArchiveFormat
  readonly #archive: Archiver
  #wake: () => void = () => undefined

  constructor(format: ArchiveFormat) {
    this.#format = format
    this.#archive =
      format === 'zip' ? new ZipArchive({ zlib: COMPRESSION }) : new TarArchive({ gzip: true, gzipOptions: COMPRESSION })
    this.#archive.on('close', () => this.#wake())
    // Whoever takes the bytes hears of it.
    this.#archive.on('error', () => this.#wake())
  }

  /** The bytes of the archive. Leaving the iteration ends the writing: {@link add} rejects. */
  async *bytes(): AsyncGenerator<Uint8Array, void, void> {
    for await (const piece of this.#archive) {
      yield piece
      this.#wake()
    }
  }

  /** Resolves when the entry has been written and another one may come. Rejects when the archive was given up, or the content failed. */
  async add(entry: ArchiveEntry): Promise<void> {
    const taken = this.#nextEntry(entry.content)
    this.#archive.append(entry.content, this.#describe(entry))
    await taken
    while (this.#archive.readableLength + this.#archive.writableLength > HELD_MAX_BYTES) await this.#taken()
  }

  /** Resolves when all has been written. */
  async finish(): Promise<void> {
    await this.#archive.finalize()
  }

  /** Ends {@link bytes} with the error, and whatever is being written. */
  fail(error: unknown): void {
    this.#archive.destroy(error instanceof Error ? error : new Error('The archive was given up.', { cause: error }))
  }

  async #nextEntry(content: Buffer | Readable): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const gone = (): void => reject(this.#archive.errored ?? new Error('Nobody takes the archive any more.'))
    this.#archive.once('entry', resolve).once('error', reject).once('close', gone)
    // Stays: what is read in advance may fail after it was given up.
    if (content instanceof Readable) content.on('error', reject)
    if (this.#archive.destroyed) gone()
    try {
      await promise
    } finally {
      this.#archive.off('entry', resolve).off('error', reject).off('close', gone)
      if (content instanceof Readable) content.destroy()
    }
  }

  async #taken(): Promise<void> {
    if (this.#archive.destroyed) throw this.#archive.errored ?? new Error('Nobody takes the archive any more.')
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#wake = resolve
    await promise
  }

  /** The library has no types for all that it hands on to the formats. */
  #describe({ path, type, status, content }: ArchiveEntry): EntryData & ZipEntryData {
    const described = { name: path, type, mode: status.mode, date: headerDate(status) }
    const target = type === 'symlink' ? { linkname: status.target ?? '' } : {}
    if (this.#format === 'zip')
      return Object.assign<EntryData & ZipEntryData, object>({ ...described, store: compressed.test(path) }, target)
    // It keeps a stream in memory whose size it does not know from here.
    const size = Buffer.isBuffer(content) ? content.length : status.sizeBytes
    return Object.assign<EntryData, object>(described, { ...target, ...tarFields(path, status), stats: { size } })
  }
}
