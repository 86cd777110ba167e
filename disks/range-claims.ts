/**
 * Shares the ranges of a disk among threads: each takes the next one when it is done with its last. Lives in shared memory, so
 * that taking a range costs no message and the main thread can see at any time how far all of them are.
 */

/** One claim. Small enough that little is repeated after a crash, large enough that claims cost nothing. */
export const RANGE_BYTES = 32 * 1024 * 1024

export interface ByteRange {
  from: number
  to: number
}

const NEXT = 0
const SLOTS = 1

export class RangeClaims {
  /** Goes into a thread's input; {@link RangeClaims.of} makes it claims again. */
  readonly shared: SharedArrayBuffer
  readonly #sizeBytes: number
  readonly #cells: Int32Array

  /** @param startBytes where to begin: a multiple of {@link RANGE_BYTES} or the size. @param slots how many may hold a range at a time. */
  static create(sizeBytes: number, startBytes: number, slots: number): RangeClaims {
    const shared = new SharedArrayBuffer((SLOTS + slots) * Int32Array.BYTES_PER_ELEMENT)
    new Int32Array(shared).fill(Math.ceil(startBytes / RANGE_BYTES))
    return new RangeClaims(shared, sizeBytes)
  }

  static of(shared: SharedArrayBuffer, sizeBytes: number): RangeClaims {
    return new RangeClaims(shared, sizeBytes)
  }

  private constructor(shared: SharedArrayBuffer, sizeBytes: number) {
    this.shared = shared
    this.#sizeBytes = sizeBytes
    this.#cells = new Int32Array(shared)
  }

  /** The next range for `slot`, whose last one counts as done from now on; `null` when none is left. */
  claim(slot: number): ByteRange | null {
    // Before the claim, so that whoever looks in between never believes the range that we are about to take to be done.
    Atomics.store(this.#cells, SLOTS + slot, Atomics.load(this.#cells, NEXT))
    const index = Atomics.add(this.#cells, NEXT, 1)
    Atomics.store(this.#cells, SLOTS + slot, index)
    const from = index * RANGE_BYTES
    return from < this.#sizeBytes ? { from, to: Math.min(from + RANGE_BYTES, this.#sizeBytes) } : null
  }

  /** Everything below is done by all. */
  reachedBytes(): number {
    // First what was given out, then who holds it: in this order a range that is taken meanwhile is not overlooked.
    let lowest = Atomics.load(this.#cells, NEXT)
    for (let cell = SLOTS; cell < this.#cells.length; cell++) lowest = Math.min(lowest, Atomics.load(this.#cells, cell))
    return Math.min(lowest * RANGE_BYTES, this.#sizeBytes)
  }
}
