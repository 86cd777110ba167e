/** Writes a blocks file while its disk is being read; see `block-hashes.ts` for the format. */
import { open, type FileHandle } from 'node:fs/promises'
import { DIGEST_BYTES } from '../domain/blocks.ts'
import { HoldfastError } from '../domain/errors.ts'
import { BLOCKS_HEADER_BYTES, blocksFileSize, digestPosition, encodeBlocksHeader, type BlockHashes } from './block-hashes.ts'
import { readFully, writeFully } from './positional-io.ts'

/** Digests collected before they are written: 256 MiB of disk, 32 KiB of file. */
const BATCH = 1_024
/** Digests that are written together although others lie between: half a GiB of disk, 64 KiB of file. */
const PAGE_DIGESTS = 2_048
/** Digests taken over from a parent at a time. */
const TAKEN_OVER_MAX = 4_096

/**
 * Digests arrive in any order, each once, and are written in batches; memory does not grow with the disk. The file starts as a hole, so a
 * block that reads as zeroes needs no call.
 *
 * Everything that touches the file waits in one row. Its first failure is the answer to all that comes after: what was lost on the way
 * (the system tells a failed sync once only) must not be claimed by a later {@link sync}. Errors are those of the file system.
 */
export class BlockHashesWriter {
  readonly #file: FileHandle
  #batch = new Map<number, Buffer>()
  #row: Promise<void> = Promise.resolve()

  /** Makes a new file; one that is there is emptied. */
  static async create(path: string, diskSizeBytes: number): Promise<BlockHashesWriter> {
    return BlockHashesWriter.#begin(await open(path, 'w+'), diskSizeBytes, 0)
  }

  /** Goes on with a file: digests below `firstIndex` stay, all others become zero again. See {@link isResumable}. */
  static async resume(path: string, diskSizeBytes: number, firstIndex: number): Promise<BlockHashesWriter> {
    return BlockHashesWriter.#begin(await open(path, 'r+'), diskSizeBytes, firstIndex)
  }

  static async #begin(file: FileHandle, diskSizeBytes: number, firstIndex: number): Promise<BlockHashesWriter> {
    try {
      await writeFully(file, encodeBlocksHeader({ diskSizeBytes, regionCount: 0 }), 0)
      await file.truncate(digestPosition(firstIndex))
      await file.truncate(blocksFileSize({ diskSizeBytes, regionCount: 0 }))
      return new BlockHashesWriter(file)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  private constructor(file: FileHandle) {
    this.#file = file
  }

  /** `digest` is kept, not copied: it must not change any more. */
  async set(index: number, digest: Buffer): Promise<void> {
    this.#batch.set(index, digest)
    if (this.#batch.size >= BATCH) await this.#writeBatch()
  }

  /** Takes over `count` digests from `firstIndex` on. */
  async copyFrom(parent: BlockHashes, firstIndex: number, count: number): Promise<void> {
    const end = firstIndex + count
    for (let index = firstIndex; index < end; index += TAKEN_OVER_MAX) {
      const digests = Buffer.allocUnsafe(Math.min(TAKEN_OVER_MAX, end - index) * DIGEST_BYTES)
      await parent.readDigests(index, digests)
      await this.#inTurn(() => writeFully(this.#file, digests, digestPosition(index)))
    }
  }

  /** Makes everything durable that was set or taken over before. */
  async sync(): Promise<void> {
    await this.#writeBatch()
    await this.#inTurn(() => this.#file.datasync())
  }

  async close(): Promise<void> {
    await this.#row.catch(() => undefined)
    await this.#file.close()
  }

  #writeBatch(): Promise<void> {
    const batch = this.#batch
    this.#batch = new Map()
    return this.#inTurn(async () => {
      for (const page of pagesOf(batch)) await this.#writePage(page)
    })
  }

  /** One write from the first digest to the last. What lies between stays as it is: nobody else writes meanwhile. */
  async #writePage(digests: readonly (readonly [index: number, digest: Buffer])[]): Promise<void> {
    const indexes = digests.map(([index]) => index)
    const first = Math.min(...indexes)
    const bytes = Buffer.alloc((Math.max(...indexes) + 1 - first) * DIGEST_BYTES)
    if (digests.length * DIGEST_BYTES < bytes.length) await this.#readBack(bytes, digestPosition(first))
    for (const [index, digest] of digests) digest.copy(bytes, (index - first) * DIGEST_BYTES)
    await writeFully(this.#file, bytes, digestPosition(first))
  }

  /** The file has its full length from the start, so there is something everywhere. */
  async #readBack(into: Buffer, position: number): Promise<void> {
    if ((await readFully(this.#file, into, position)) === into.length) return
    throw new HoldfastError(
      'DISK_WRITE_FAILED',
      `The blocks file ends before ${position + into.length}: something else cut it short.`,
    )
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#row = this.#row.then(work)
    // Whoever waits for it hears of the failure; so does everyone after.
    this.#row.catch(() => undefined)
    return this.#row
  }
}

/** Digests that are near each other in the file. */
function pagesOf(batch: ReadonlyMap<number, Buffer>): Iterable<[index: number, digest: Buffer][]> {
  return Map.groupBy(batch, ([index]) => Math.floor(index / PAGE_DIGESTS)).values()
}

/**
 * Whether {@link BlockHashesWriter.resume} can go on at `firstIndex` with the file at `path`: begun for a disk of this size, finished or
 * not, and long enough for all digests before. What lies behind them may be missing, after a crash at any moment.
 * Other trouble than a missing file is thrown, as the file system's error: it may pass.
 */
export async function isResumable(path: string, diskSizeBytes: number, firstIndex: number): Promise<boolean> {
  const file = await openIfThere(path)
  if (!file) return false
  try {
    const start = Buffer.alloc(BLOCKS_HEADER_BYTES)
    if ((await readFully(file, start, 0)) < start.length) return false
    start.writeBigUInt64LE(0n, REGION_COUNT_AT)
    if (!start.equals(encodeBlocksHeader({ diskSizeBytes, regionCount: 0 }))) return false
    return (await file.stat()).size >= digestPosition(firstIndex)
  } finally {
    await file.close()
  }
}

/** The one field of the header that does not follow from the disk's size. */
const REGION_COUNT_AT = 48

async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, 'r')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
}
