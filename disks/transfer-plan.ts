/** What is to be done with each block of a disk, in order, from what the source says about its extents. Pure. */
import { BLOCK_SIZE_BYTES, blockLengthBytes, CLUSTER_SIZE_BYTES } from '../domain/blocks.ts'

/** A run of bytes with one answer. Runs are contiguous and in order. */
export interface Segment {
  offset: number
  length: number
  /** Whether it may differ from the parent; always, without a parent. */
  changed: boolean
  /** Whether the source promises that it reads as zeroes. */
  zero: boolean
}

/** One step of a transfer: a run of whole blocks (the disk's last may be short). */
export type PlanStep =
  /** Reads as zeroes without being read. */
  | { action: 'zero'; firstIndex: number; count: number }
  /** Equals the parent. */
  | { action: 'keep'; firstIndex: number; count: number }
  /** Must be read; bit `n` of `changedClusters` says that cluster `n` of the block may differ from the parent. */
  | { action: 'read'; firstIndex: number; count: 1; changedClusters: number }

/** Longest run in one step, 1 GiB of disk: progress and checkpoints stay fine-grained. */
const RUN_MAX = 4_096

/** Every cluster of a block. */
export const ALL_CLUSTERS = 2 ** (BLOCK_SIZE_BYTES / CLUSTER_SIZE_BYTES) - 1

export async function* planSteps(segments: AsyncIterable<Segment>, sizeBytes: number): AsyncGenerator<PlanStep> {
  const block = new OpenBlock(sizeBytes)
  for await (const segment of segments) {
    let offset = segment.offset
    const end = segment.offset + segment.length
    while (offset < end) {
      const index = Math.floor(offset / BLOCK_SIZE_BYTES)
      const wholeBlocks = offset % BLOCK_SIZE_BYTES === 0 ? Math.floor((end - offset) / BLOCK_SIZE_BYTES) : 0
      if (wholeBlocks > 0) {
        yield* runOf(segment, index, wholeBlocks)
        offset += wholeBlocks * BLOCK_SIZE_BYTES
        continue
      }
      const pieceEnd = Math.min(end, index * BLOCK_SIZE_BYTES + blockLengthBytes(index, sizeBytes))
      const step = block.add(index, offset, pieceEnd, segment)
      if (step) yield step
      offset = pieceEnd
    }
  }
}

function* runOf(segment: Segment, firstIndex: number, count: number): Generator<PlanStep> {
  if (segment.changed && !segment.zero) {
    for (let index = firstIndex; index < firstIndex + count; index++) {
      yield { action: 'read', firstIndex: index, count: 1, changedClusters: ALL_CLUSTERS }
    }
    return
  }
  const action = segment.changed ? 'zero' : 'keep'
  for (let index = firstIndex; index < firstIndex + count; index += RUN_MAX) {
    yield { action, firstIndex: index, count: Math.min(RUN_MAX, firstIndex + count - index) }
  }
}

/** Collects the pieces of a block that lies in several segments. */
class OpenBlock {
  readonly #sizeBytes: number
  #changedClusters = 0
  #zero = true

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes
  }

  /** The step for the block once its last piece is in. */
  add(index: number, from: number, to: number, segment: Segment): PlanStep | null {
    const start = index * BLOCK_SIZE_BYTES
    if (segment.changed) {
      const last = Math.floor((to - 1 - start) / CLUSTER_SIZE_BYTES)
      for (let cluster = Math.floor((from - start) / CLUSTER_SIZE_BYTES); cluster <= last; cluster++) {
        this.#changedClusters |= 1 << cluster
      }
    }
    this.#zero &&= segment.zero
    return to === start + blockLengthBytes(index, this.#sizeBytes) ? this.#finish(index) : null
  }

  #finish(firstIndex: number): PlanStep {
    const changedClusters = this.#changedClusters
    const isZero = this.#zero
    this.#changedClusters = 0
    this.#zero = true
    if (changedClusters === 0) return { action: 'keep', firstIndex, count: 1 }
    if (isZero) return { action: 'zero', firstIndex, count: 1 }
    return { action: 'read', firstIndex, count: 1, changedClusters }
  }
}

/** Extents with a yes-or-no answer, contiguous and in order. */
export interface Answer {
  offset: number
  length: number
  yes: boolean
}

/** Overlays two rows of answers about the same range into segments. */
export async function* overlay(changed: AsyncIterable<Answer>, zero: AsyncIterable<Answer>): AsyncGenerator<Segment> {
  const zeroes = zero[Symbol.asyncIterator]()
  try {
    let current = await zeroes.next()
    for await (const change of changed) {
      let offset = change.offset
      const end = change.offset + change.length
      while (offset < end && !current.done) {
        const zeroEnd = current.value.offset + current.value.length
        const next = Math.min(end, zeroEnd)
        if (next > offset) yield { offset, length: next - offset, changed: change.yes, zero: current.value.yes }
        offset = Math.max(offset, next)
        if (zeroEnd <= offset) current = await zeroes.next()
      }
    }
  } finally {
    await zeroes.return?.()
  }
}
