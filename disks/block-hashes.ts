/**
 * The blocks file (`disk-<n>.blocks`): the birth hash of every block of a disk, and checksums of the QCOW2 file that holds them.
 *
 * All numbers little-endian:
 *
 * | bytes | what |
 * |---|---|
 * | 0–7 | magic `HFBLOCKS` |
 * | 8–11 | format version, 1 |
 * | 12–15 | block size, 262 144 |
 * | 16–19 | digest length, 32 |
 * | 20–23 | 0 |
 * | 24–31 | disk size in bytes |
 * | 32–39 | number of blocks |
 * | 40–43 | container region size, 1 048 576 |
 * | 44–47 | 0 |
 * | 48–55 | number of container regions; 0 while the file is being written |
 * | 56–63 | 0 |
 * | then | one SHA-256 per block of the whole disk at this point, also in an incremental; all zero: the block reads as zeroes |
 * | then | one CRC-32 (4 bytes) per region of the finished QCOW2 file |
 *
 * Blocks that read as zeroes take no space: the file is sparse. A 16 TiB disk has 2 GiB of hashes, so nothing here reads a whole file.
 */
import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { BLOCK_SIZE_BYTES, blockCount, DIGEST_BYTES } from '../domain/blocks.ts'
import { HoldfastError } from '../domain/errors.ts'
import { readFully } from './positional-io.ts'
import { openRegularFile } from './regular-file.ts'

export const BLOCKS_HEADER_BYTES = 64
export const BLOCKS_VERSION = 1
/** One checksum of the container covers this much of the QCOW2 file; the last region may be shorter. */
export const REGION_SIZE_BYTES = 1024 * 1024
export const CHECKSUM_BYTES = 4
/** Stands for a block that reads as zeroes. */
export const ZERO_DIGEST: Buffer = Buffer.alloc(DIGEST_BYTES)

const MAGIC = Buffer.from('HFBLOCKS', 'latin1')
/** 2 048 digests, half a GiB of disk. */
const WINDOW_BYTES = 64 * 1024
const WINDOWS_KEPT = 4
const HASH_CHUNK_BYTES = 1024 * 1024

export interface BlocksHeader {
  diskSizeBytes: number
  /** 0 while the backup is being written. */
  regionCount: number
}

export function encodeBlocksHeader(header: BlocksHeader): Buffer {
  const bytes = Buffer.alloc(BLOCKS_HEADER_BYTES)
  MAGIC.copy(bytes)
  bytes.writeUInt32LE(BLOCKS_VERSION, 8)
  bytes.writeUInt32LE(BLOCK_SIZE_BYTES, 12)
  bytes.writeUInt32LE(DIGEST_BYTES, 16)
  bytes.writeBigUInt64LE(BigInt(header.diskSizeBytes), 24)
  bytes.writeBigUInt64LE(BigInt(blockCount(header.diskSizeBytes)), 32)
  bytes.writeUInt32LE(REGION_SIZE_BYTES, 40)
  bytes.writeBigUInt64LE(BigInt(header.regionCount), 48)
  return bytes
}

/** Where the digest of block `index` stands in the file. */
export function digestPosition(index: number): number {
  return BLOCKS_HEADER_BYTES + index * DIGEST_BYTES
}

/** Length of the file that {@link BlocksHeader} describes. */
export function blocksFileSize(header: BlocksHeader): number {
  return digestPosition(blockCount(header.diskSizeBytes)) + header.regionCount * CHECKSUM_BYTES
}

/** Checks every count against the file's size before anything relies on it. Returns the header, or what is wrong with it. */
export function parseBlocksHeader(bytes: Buffer, fileSizeBytes: number): BlocksHeader | string {
  if (bytes.length < BLOCKS_HEADER_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return 'it is not a blocks file'
  if (bytes.readUInt32LE(8) !== BLOCKS_VERSION)
    return `its format version is ${bytes.readUInt32LE(8)}, expected ${BLOCKS_VERSION}`
  const header = {
    diskSizeBytes: Number(bytes.readBigUInt64LE(24)),
    regionCount: Number(bytes.readBigUInt64LE(48)),
  }
  const counts = [header.diskSizeBytes, header.regionCount, blocksFileSize(header)]
  if (!counts.every(Number.isSafeInteger)) return 'its counts are beyond belief'
  // The rest of the header follows from the two counts, reserved bytes included.
  if (!encodeBlocksHeader(header).equals(bytes.subarray(0, BLOCKS_HEADER_BYTES))) return 'its header contradicts itself'
  const expected = blocksFileSize(header)
  return fileSizeBytes === expected ? header : `it has ${fileSizeBytes} bytes, its header says ${expected}`
}

/**
 * Reads a finished blocks file through small windows, so that memory does not grow with the disk. Safe for concurrent calls.
 *
 * Errors: `BACKUP_CORRUPT` (missing, damaged or unfinished; lasting), `REPO_UNAVAILABLE` (the file cannot be read; retryable).
 */
export class BlockHashes {
  readonly diskSizeBytes: number
  readonly blockCount: number
  /** Regions of the QCOW2 file that have a checksum. */
  readonly regionCount: number
  readonly #path: string
  readonly #file: FileHandle
  readonly #windows = new Map<number, Promise<Buffer>>()

  static async open(path: string): Promise<BlockHashes> {
    const file = await openForReading(path)
    try {
      const start = Buffer.alloc(BLOCKS_HEADER_BYTES)
      const bytesRead = await readFully(file, start, 0)
      const stat = await file.stat()
      const header = parseBlocksHeader(start.subarray(0, bytesRead), stat.size)
      if (typeof header === 'string') throw corrupt(path, header)
      if (header.regionCount === 0) throw corrupt(path, 'it was never finished')
      return new BlockHashes(path, file, header)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  private constructor(path: string, file: FileHandle, header: BlocksHeader) {
    this.#path = path
    this.#file = file
    this.diskSizeBytes = header.diskSizeBytes
    this.blockCount = blockCount(header.diskSizeBytes)
    this.regionCount = header.regionCount
  }

  /** SHA-256 of block `index`, or {@link ZERO_DIGEST}. Beyond the disk's end everything reads as zeroes. Not to be changed. */
  async digest(index: number): Promise<Buffer> {
    return index < this.blockCount ? this.#bytes(index * DIGEST_BYTES, DIGEST_BYTES) : ZERO_DIGEST
  }

  /** CRC-32 of region `index` of the QCOW2 file. */
  async regionChecksum(index: number): Promise<number> {
    if (index >= this.regionCount) throw new HoldfastError('INTERNAL', `Region ${index} of ${this.#path} does not exist.`)
    return (await this.#bytes(this.blockCount * DIGEST_BYTES + index * CHECKSUM_BYTES, CHECKSUM_BYTES)).readUInt32LE(0)
  }

  /** Fills `into` with the digests of consecutive blocks from `firstIndex` on. For copying runs of them. */
  async readDigests(firstIndex: number, into: Buffer): Promise<void> {
    await this.#readExactly(digestPosition(firstIndex), into)
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  /** `at` counts from the end of the header; digests and checksums never cross a window. */
  async #bytes(at: number, length: number): Promise<Buffer> {
    const window = await this.#window(Math.floor(at / WINDOW_BYTES))
    const start = at % WINDOW_BYTES
    return window.subarray(start, start + length)
  }

  #window(index: number): Promise<Buffer> {
    const known = this.#windows.get(index)
    if (known) return known
    const loading = this.#load(index)
    this.#windows.set(index, loading)
    // The oldest goes first; a failed load is not kept.
    loading.catch(() => this.#windows.delete(index))
    if (this.#windows.size > WINDOWS_KEPT) this.#windows.delete(this.#windows.keys().next().value ?? index)
    return loading
  }

  async #load(index: number): Promise<Buffer> {
    const bodyBytes = this.blockCount * DIGEST_BYTES + this.regionCount * CHECKSUM_BYTES
    const window = Buffer.alloc(Math.min(WINDOW_BYTES, bodyBytes - index * WINDOW_BYTES))
    await this.#readExactly(BLOCKS_HEADER_BYTES + index * WINDOW_BYTES, window)
    return window
  }

  async #readExactly(position: number, into: Buffer): Promise<void> {
    const bytesRead = await readFully(this.#file, into, position).catch((error: unknown) => {
      throw unreadable(this.#path, error)
    })
    if (bytesRead !== into.length) throw corrupt(this.#path, `it ends within the ${into.length} bytes at ${position}`)
  }
}

/** Hash root: SHA-256 (hex) over the whole blocks file; the manifest keeps it. Errors as {@link BlockHashes}. */
export async function hashBlocksFile(path: string, signal?: AbortSignal): Promise<string> {
  const file = await openForReading(path)
  try {
    const hash = createHash('sha256')
    const chunk = Buffer.allocUnsafe(HASH_CHUNK_BYTES)
    for (;;) {
      signal?.throwIfAborted()
      const { bytesRead } = await file.read(chunk, 0, chunk.length, null).catch((error: unknown) => {
        throw unreadable(path, error)
      })
      if (bytesRead === 0) return hash.digest('hex')
      hash.update(chunk.subarray(0, bytesRead))
    }
  } finally {
    await file.close()
  }
}

async function openForReading(path: string): Promise<FileHandle> {
  const file = await openRegularFile(path).catch((error: unknown) => {
    throw isMissing(error) ? corrupt(path, 'it is missing', error) : unreadable(path, error)
  })
  if (file === null) throw corrupt(path, 'it is not a regular file')
  return file
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}

function corrupt(path: string, what: string, cause?: unknown): HoldfastError {
  return new HoldfastError('BACKUP_CORRUPT', `The blocks file "${path}" cannot be trusted: ${what}. Make a new full backup.`, {
    details: { path },
    cause,
  })
}

function unreadable(path: string, cause: unknown): HoldfastError {
  return new HoldfastError('REPO_UNAVAILABLE', `The blocks file "${path}" could not be read. Check the repository's storage.`, {
    details: { path },
    cause,
  })
}
