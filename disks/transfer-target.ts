/** Writes to the QCOW2 file that `qemu-nbd` serves: whole clusters, zeroes as zeroes, errors in our words. */
import { BLOCK_SIZE_BYTES, CLUSTER_SIZE_BYTES } from '../domain/blocks.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { NbdEndpoint } from '../sources/source.ts'
import { NbdPool } from './nbd/nbd-pool.ts'

/** Storage may stall for long; a write that is given up costs the whole attempt. */
export const TARGET_TIMEOUT_MS = 300_000
const ZERO_CLUSTER: Buffer = Buffer.alloc(CLUSTER_SIZE_BYTES)

export interface TransferTargetOptions {
  endpoint: NbdEndpoint
  diskIndex: number
  connections: number
}

/** Bits of clusters within a block. */
export type ClusterMask = number

/**
 * `INSUFFICIENT_STORAGE` (lasting) when the file system is full; `DISK_WRITE_FAILED` (retryable) for everything else: the next attempt
 * goes on from the journal.
 */
export class TransferTarget {
  readonly #options: TransferTargetOptions
  readonly #pool: NbdPool

  static async open(options: TransferTargetOptions): Promise<TransferTarget> {
    const pool = await NbdPool.open(options.endpoint, {
      connections: options.connections,
      requestTimeoutMs: TARGET_TIMEOUT_MS,
    })
    return new TransferTarget(options, pool)
  }

  private constructor(options: TransferTargetOptions, pool: NbdPool) {
    this.#options = options
    this.#pool = pool
  }

  get sizeBytes(): number {
    return this.#pool.export.sizeBytes
  }

  /**
   * Writes the clusters of `wanted` from a block that starts at `offset`. Clusters that hold only zeroes are written as zeroes when
   * `overParent`, else left alone: without a parent they read as zeroes anyway. Returns the data bytes written.
   * `buffer` holds a whole block; what lies beyond `length` is overwritten with zeroes to fill the last cluster.
   */
  async writeBlock(
    offset: number,
    block: { buffer: Buffer; length: number; wanted: ClusterMask; overParent: boolean },
  ): Promise<number> {
    const { buffer, length, overParent } = block
    buffer.fill(0, length)
    const zeroMask = zeroClusters(buffer) & block.wanted
    const dataMask = block.wanted & ~zeroMask
    const writes = runs(dataMask).map((run) => this.#writeData(offset, run, buffer))
    const zeroes = overParent ? runs(zeroMask).map((run) => this.#zeroRun(offset, run)) : []
    // Every answer is awaited: the buffer is free again only after the last.
    const results = await Promise.allSettled([...writes, ...zeroes])
    for (const result of results) if (result.status === 'rejected') throw result.reason
    return runs(dataMask).reduce((sum, run) => sum + Math.min(run.end, length) - run.start, 0)
  }

  /** Makes `[offset, offset + length)` read as zeroes, whatever the parent holds there. The range is widened to the disk's end only. */
  async writeZeroes(offset: number, length: number): Promise<void> {
    const padded = this.#padded(offset, length)
    await this.#translated({ offset, length }, this.#pool.writeZeroes(offset, padded))
  }

  /** Everything acknowledged before is durable afterwards. */
  async flush(): Promise<void> {
    await this.#translated({ offset: 0, length: 0 }, this.#pool.flush())
  }

  async close(): Promise<void> {
    await this.#pool.close()
  }

  async #writeData(offset: number, run: Run, buffer: Buffer): Promise<void> {
    const start = offset + run.start
    const data = buffer.subarray(run.start, run.start + this.#padded(start, run.end - run.start))
    await this.#translated({ offset: start, length: data.length }, this.#pool.write(start, data))
  }

  async #zeroRun(offset: number, run: Run): Promise<void> {
    const start = offset + run.start
    await this.writeZeroes(start, Math.min(run.end - run.start, this.sizeBytes - start))
  }

  /** A disk's end need not be a multiple of what the server takes; the image reaches at least that far. */
  #padded(offset: number, length: number): number {
    const unit = Math.max(this.#pool.export.minBlockBytes, 512)
    return Math.min(Math.ceil(length / unit) * unit, this.sizeBytes - offset)
  }

  async #translated(range: { offset: number; length: number }, work: Promise<void>): Promise<void> {
    try {
      await work
    } catch (error) {
      throw this.#writeFailed(range, error)
    }
  }

  #writeFailed(range: { offset: number; length: number }, cause: unknown): HoldfastError {
    const { diskIndex } = this.#options
    const details = { disk: diskIndex, ...range }
    if (errnoOf(cause) === 'ENOSPC') {
      return new HoldfastError(
        'INSUFFICIENT_STORAGE',
        `The repository is full: disk ${diskIndex} could not be written at offset ${range.offset}. Delete backups or add space.`,
        { details, cause },
      )
    }
    return new HoldfastError(
      'DISK_WRITE_FAILED',
      `Disk ${diskIndex} could not be written at offset ${range.offset} (${range.length} bytes): ` +
        `${cause instanceof Error ? cause.message : String(cause)} The next attempt goes on from the last checkpoint.`,
      { details, cause },
    )
  }
}

/** Bytes within a block, from cluster to cluster. */
interface Run {
  start: number
  end: number
}

function zeroClusters(buffer: Buffer): ClusterMask {
  let mask = 0
  for (let start = 0; start < BLOCK_SIZE_BYTES; start += CLUSTER_SIZE_BYTES) {
    if (buffer.compare(ZERO_CLUSTER, 0, CLUSTER_SIZE_BYTES, start, start + CLUSTER_SIZE_BYTES) === 0) {
      mask |= 1 << (start / CLUSTER_SIZE_BYTES)
    }
  }
  return mask
}

/** Neighbouring clusters of a mask as byte ranges. */
function runs(mask: ClusterMask): Run[] {
  const found: Run[] = []
  for (let cluster = 0; cluster < BLOCK_SIZE_BYTES / CLUSTER_SIZE_BYTES; cluster++) {
    if ((mask & (1 << cluster)) === 0) continue
    const start = cluster * CLUSTER_SIZE_BYTES
    const last = found.at(-1)
    if (last?.end === start) last.end += CLUSTER_SIZE_BYTES
    else found.push({ start, end: start + CLUSTER_SIZE_BYTES })
  }
  return found
}

function errnoOf(error: unknown): string | null {
  if (!(error instanceof HoldfastError) || error.code !== 'NBD_REQUEST_FAILED') return null
  return typeof error.details['errno'] === 'string' ? error.details['errno'] : null
}
