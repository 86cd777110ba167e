/** A set of blocks of one disk: a bit for each, 8 MiB for 16 TiB. */
export class BlockSet {
  readonly #bits: Uint8Array

  constructor(blockCount: number) {
    this.#bits = new Uint8Array(Math.ceil(blockCount / 8))
  }

  add(index: number): void {
    this.#bits[index >>> 3] = this.#byte(index) | (1 << (index & 7))
  }

  has(index: number): boolean {
    return (this.#byte(index) & (1 << (index & 7))) !== 0
  }

  /** `count` blocks from `firstIndex` on, as runs of those that are in the set and those that are not; in order. */
  *runs(firstIndex: number, count: number): Generator<{ firstIndex: number; count: number; inSet: boolean }> {
    const end = firstIndex + count
    for (let start = firstIndex; start < end;) {
      const inSet = this.has(start)
      let next = start + 1
      while (next < end && this.has(next) === inSet) next++
      yield { firstIndex: start, count: next - start, inSet }
      start = next
    }
  }

  #byte(index: number): number {
    return this.#bits[index >>> 3] ?? 0
  }
}
