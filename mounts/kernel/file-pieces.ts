/** Opens regular files and reads them a little ahead of whoever takes the pieces. */
import { constants, type BigIntStats } from 'node:fs'
import { lstat, open, type FileHandle } from 'node:fs/promises'
import type { ByteRange } from '../file-reader.ts'
import { PathError } from './held-folders.ts'

/** Node does not name it on every system; from the kernel's asm-generic/fcntl.h. */
const O_NOATIME = 0o1000000
const READ = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW
const EINVAL = 22

export const PIECE_BYTES = 1024 * 1024
/** Besides the one that is taken. */
const PIECES_AHEAD = 2

/** Rejects with the kernel's error, and {@link PathError} `EINVAL` for anything but a regular file, which is never opened: a pipe would wait. */
export async function openRegular(path: Buffer): Promise<{ handle: FileHandle; sizeBytes: number }> {
  const seen = await lstat(path, { bigint: true })
  if (!seen.isFile()) throw new PathError(EINVAL)
  const handle = await open(path, READ | O_NOATIME).catch((error: unknown) => {
    // Only a file's owner may leave its access time alone.
    if (error instanceof Error && 'code' in error && error.code === 'EPERM') return open(path, READ)
    throw error
  })
  try {
    const found = await handle.stat({ bigint: true })
    if (!isSame(found, seen)) throw new PathError(EINVAL)
    return { handle, sizeBytes: Number(found.size) }
  } catch (error) {
    await handle.close()
    throw error
  }
}

function isSame(found: BigIntStats, seen: BigIntStats): boolean {
  return found.isFile() && found.ino === seen.ino && found.dev === seen.dev
}

interface Piece {
  bytes: Uint8Array
  /** Why it is shorter than asked for, if not because the file ends. */
  error: unknown
}

/** Reads a range of an open file, for one caller at a time; {@link close} ends it at any time. */
export class FilePieces {
  readonly #handle: FileHandle
  readonly #end: number
  #next: number
  /** What is being read: the first is the next to be taken. */
  readonly #ahead: Promise<Piece>[] = []
  /** Nothing comes any more: what was read ahead lies behind a gap, or behind the end. */
  #over: { error: unknown } | null = null
  #closing: Promise<void> | null = null

  constructor(handle: FileHandle, sizeBytes: number, range: ByteRange) {
    this.#handle = handle
    this.#next = range.offset
    this.#end = Math.min(sizeBytes, range.offset + range.length)
  }

  /** The next bytes; `null` at the end of the range or file. What precedes a place that cannot be read comes before the kernel's error. */
  async take(): Promise<Uint8Array | null> {
    this.#fill()
    const first = this.#over === null ? this.#ahead[0] : undefined
    if (!first) return this.#finish()
    const piece = await first
    // Not before it is there: whoever closes the file waits for what is in this list.
    void this.#ahead.shift()
    if (piece.error !== null || piece.bytes.length === 0) this.#over = { error: piece.error }
    this.#fill()
    return piece.bytes.length === 0 ? this.#finish() : piece.bytes
  }

  /** Waits for what is being read. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= Promise.all(this.#ahead).then(() => this.#handle.close())
    return this.#closing
  }

  #finish(): null {
    if (this.#over !== null && this.#over.error !== null) throw this.#over.error
    return null
  }

  #fill(): void {
    while (this.#mayRead()) {
      const length = Math.min(PIECE_BYTES, this.#end - this.#next)
      this.#ahead.push(readFully(this.#handle, this.#next, length))
      this.#next += length
    }
  }

  #mayRead(): boolean {
    const idle = this.#closing === null && this.#over === null
    return idle && this.#ahead.length <= PIECES_AHEAD && this.#next < this.#end
  }
}

/** Never rejects, because nobody may be waiting for it yet. */
async function readFully(handle: FileHandle, offset: number, length: number): Promise<Piece> {
  const buffer = Buffer.allocUnsafeSlow(length)
  let done = 0
  try {
    while (done < length) {
      const { bytesRead } = await handle.read(buffer, done, length - done, offset + done)
      if (bytesRead === 0) break
      done += bytesRead
    }
    return { bytes: buffer.subarray(0, done), error: null }
  } catch (error) {
    return { bytes: buffer.subarray(0, done), error }
  }
}
