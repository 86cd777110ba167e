/** The copying itself, inside a worker thread: read, test for zeroes, hash, write, in several lanes; and checkpoints beside them. */
import { hash } from 'node:crypto'
import { BLOCK_SIZE_BYTES, blockLengthBytes, CLUSTER_SIZE_BYTES } from '../domain/blocks.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { Progress } from '../domain/progress.ts'
import { ZERO_DIGEST } from './block-hashes.ts'
import { Checkpoints } from './checkpoints.ts'
import { dataRuns, type BlockRun } from './parent-data.ts'
import { RateLimit } from './rate-limit.ts'
import { changedSince } from './transfer-extents.ts'
import { openCopy, type CopyParts, type CopyTask } from './transfer-parts.ts'
import { ALL_CLUSTERS, planSteps, type PlanStep } from './transfer-plan.ts'
import { Watermark } from './watermark.ts'

/** Blocks under way at once. More gains nothing (measured), and memory is this many blocks. */
const LANES = 16

export interface CopyProgress extends Progress {
  checkpointBytes: number
}

/**
 * Copies from where `resume` says to the end of the disk. On return every byte and digest is durable. On failure or abort
 * what could be made durable is in the journal, and the failure (or the signal's reason) is thrown.
 */
export async function copyDisk(
  task: CopyTask,
  signal: AbortSignal,
  onProgress: (progress: CopyProgress) => void,
): Promise<CopyProgress> {
  const copy = new DiskCopy(await openCopy(task, signal))
  try {
    return await copy.run(onProgress)
  } finally {
    await copy.close()
  }
}

const PROGRESS_INTERVAL_MS = 500

class DiskCopy {
  readonly #parts: CopyParts
  readonly #limit: RateLimit
  readonly #watermark: Watermark
  readonly #checkpoints: Checkpoints
  readonly #steps: AsyncGenerator<PlanStep>
  #turn: Promise<unknown> = Promise.resolve()
  #processedBytes: number
  #writtenBytes: number

  constructor(parts: CopyParts) {
    const { task, reader, signal } = parts
    const start = task.resume ?? { positionBytes: 0, writtenBytes: 0 }
    this.#parts = parts
    this.#limit = new RateLimit(task.rateLimitBytesPerSecond)
    this.#watermark = new Watermark(start)
    this.#checkpoints = new Checkpoints({
      target: parts.target,
      hashes: parts.hashes,
      journal: parts.journal,
      watermark: this.#watermark,
      start,
      checkpointIntervalMs: task.checkpointIntervalMs,
      checkpointIntervalBytes: task.checkpointIntervalBytes,
    })
    this.#processedBytes = start.positionBytes
    this.#writtenBytes = start.writtenBytes
    const range = { from: start.positionBytes, to: task.identity.sizeBytes, parentSizeBytes: task.parent?.sizeBytes ?? null }
    this.#steps = planSteps(changedSince(reader, task, range, signal), task.identity.sizeBytes)
  }

  async run(onProgress: (progress: CopyProgress) => void): Promise<CopyProgress> {
    const ticking = setInterval(() => onProgress(this.#progress()), PROGRESS_INTERVAL_MS)
    try {
      await this.#runLanes()
      await this.#checkpoints.finish()
      return this.#progress()
    } finally {
      clearInterval(ticking)
    }
  }

  async close(): Promise<void> {
    // Newest first; one that fails to close must not keep the others open.
    await Promise.allSettled(this.#parts.opened.toReversed().map((resource) => resource.close()))
  }

  #progress(): CopyProgress {
    return {
      processedBytes: this.#processedBytes,
      totalBytes: this.#parts.task.identity.sizeBytes,
      writtenBytes: this.#writtenBytes,
      checkpointBytes: this.#checkpoints.durable.positionBytes,
    }
  }

  async #runLanes(): Promise<void> {
    const { stop, signal } = this.#parts
    const lanes = Array.from({ length: LANES }, async () => {
      try {
        await this.#lane()
      } catch (error) {
        stop.abort(error)
        throw error
      }
    })
    await Promise.allSettled(lanes)
    if (!signal.aborted) return
    // What the lanes achieved is worth keeping; why they stopped is what matters, not whether this works.
    await this.#checkpoints.finish().catch(() => undefined)
    throw signal.reason
  }

  async #lane(): Promise<void> {
    const buffer = Buffer.allocUnsafeSlow(BLOCK_SIZE_BYTES)
    for (;;) {
      this.#parts.signal.throwIfAborted()
      const next = await this.#nextStep()
      if (next === null) return
      const written = await this.#carryOut(next.step, buffer)
      this.#writtenBytes += written
      this.#processedBytes += next.lengthBytes
      next.done(written)
      this.#checkpoints.consider((error) => this.#parts.stop.abort(error))
    }
  }

  /** Steps are handed out one at a time and in order; that is what the watermark relies on. */
  #nextStep(): Promise<{ step: PlanStep; lengthBytes: number; done: (writtenBytes: number) => void } | null> {
    const turn = this.#turn.then(async () => {
      const { value: step, done } = await this.#steps.next()
      if (done) return null
      const { from, to } = this.#bytesOf(step)
      return { step, lengthBytes: to - from, done: this.#watermark.begin(to) }
    })
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  #bytesOf(step: BlockRun): { from: number; to: number } {
    const { sizeBytes } = this.#parts.task.identity
    return {
      from: step.firstIndex * BLOCK_SIZE_BYTES,
      to: Math.min(sizeBytes, (step.firstIndex + step.count) * BLOCK_SIZE_BYTES),
    }
  }

  /** Returns the data bytes written. */
  async #carryOut(step: PlanStep, buffer: Buffer): Promise<number> {
    switch (step.action) {
      case 'keep':
        return this.#keep(step, buffer)
      case 'zero':
        await this.#zero(step)
        return 0
      case 'read':
        return this.#copyBlock(step.firstIndex, step.changedClusters, buffer)
      default:
        return step satisfies never
    }
  }

  /** The parent's content shows through, except where leftovers hide it: there it is written again. */
  async #keep({ firstIndex, count }: BlockRun, buffer: Buffer): Promise<number> {
    const { parentHashes, hashes, leftovers, signal } = this.#parts
    if (parentHashes === null) throw new HoldfastError('INTERNAL', 'A block was to be kept although there is no parent.')
    let written = 0
    for (const run of leftovers?.runs(firstIndex, count) ?? [{ firstIndex, count, inSet: false }]) {
      if (!run.inSet) await hashes.copyFrom(parentHashes, run.firstIndex, run.count)
      else {
        for (let index = run.firstIndex; index < run.firstIndex + run.count; index++) {
          signal.throwIfAborted()
          written += await this.#copyBlock(index, ALL_CLUSTERS, buffer)
        }
      }
    }
    return written
  }

  /** The digests are zero already; the parent's data, where it has any, must be hidden. */
  async #zero({ firstIndex, count }: BlockRun): Promise<void> {
    const { parentHashes, target } = this.#parts
    if (parentHashes === null) return
    for await (const run of dataRuns(parentHashes, firstIndex, count)) {
      const { from, to } = this.#bytesOf(run)
      await target.writeZeroes(from, to - from)
    }
  }

  async #copyBlock(index: number, changedClusters: number, buffer: Buffer): Promise<number> {
    const { task, reader, target, hashes, parentHashes, leftovers, signal } = this.#parts
    const offset = index * BLOCK_SIZE_BYTES
    const length = blockLengthBytes(index, task.identity.sizeBytes)
    const data = buffer.subarray(0, length)
    await this.#limit.take(length, signal)
    await reader.read(offset, data)
    const digest = digestOf(data)
    const hidden = leftovers?.has(index) ?? false
    let written = 0
    if (hidden || !(await this.#equalsParent(index, length, digest))) {
      const wanted = (hidden ? ALL_CLUSTERS : changedClusters) & clustersWithin(length)
      written = await target.writeBlock(offset, { buffer, length, wanted, overParent: parentHashes !== null })
    }
    if (digest !== ZERO_DIGEST) await hashes.set(index, digest)
    return written
  }

  async #equalsParent(index: number, length: number, digest: Buffer): Promise<boolean> {
    const { parentHashes } = this.#parts
    if (parentHashes === null || index >= parentHashes.blockCount) return false
    // Equal hashes mean equal blocks only if the blocks are equally long: a grown disk's last block is not.
    if (blockLengthBytes(index, parentHashes.diskSizeBytes) !== length) return false
    return digest.equals(await parentHashes.digest(index))
  }
}

const ZERO_BLOCK: Buffer = Buffer.alloc(BLOCK_SIZE_BYTES)

/** {@link ZERO_DIGEST} itself for a block of zeroes. */
function digestOf(data: Buffer): Buffer {
  if (data.equals(data.length === BLOCK_SIZE_BYTES ? ZERO_BLOCK : ZERO_BLOCK.subarray(0, data.length))) return ZERO_DIGEST
  return hash('sha256', data, 'buffer')
}

/** The clusters of a block that the disk reaches into. */
function clustersWithin(length: number): number {
  return ALL_CLUSTERS & (2 ** Math.ceil(length / CLUSTER_SIZE_BYTES) - 1)
}
