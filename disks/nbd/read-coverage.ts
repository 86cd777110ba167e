/** A server that scatters one read over more islands than this is not serving, it is attacking. */
const ISLANDS_MAX = 4096

/** Which bytes of one READ have arrived, in a structured reply whose chunks may come in any order. Offsets count from the request's start. */
export class ReadCoverage {
  readonly #lengthBytes: number
  /** Disjoint, sorted, never touching. */
  readonly #islands: { start: number; end: number }[] = []

  constructor(lengthBytes: number) {
    this.#lengthBytes = lengthBytes
  }

  get complete(): boolean {
    const first = this.#islands[0]
    return first !== undefined && first.start === 0 && first.end === this.#lengthBytes
  }

  /** Notes `[start, start + lengthBytes)`. Returns what is wrong with it, or `null`. */
  add(start: number, lengthBytes: number): string | null {
    const end = start + lengthBytes
    // The comparison also refuses NaN, which stands for a number beyond 2^53.
    if (!(start >= 0 && lengthBytes > 0 && end <= this.#lengthBytes)) return 'a chunk lies outside the range that was asked for'
    const next = this.#indexAfter(start)
    const before = this.#islands[next - 1]
    const after = this.#islands[next]
    if ((before && before.end > start) || (after && after.start < end)) return 'two chunks overlap'
    const joinsBefore = before?.end === start
    const joinsAfter = after?.start === end
    if (before && after && joinsBefore && joinsAfter) {
      before.end = after.end
      this.#islands.splice(next, 1)
    } else if (before && joinsBefore) before.end = end
    else if (after && joinsAfter) after.start = start
    else this.#islands.splice(next, 0, { start, end })
    return this.#islands.length > ISLANDS_MAX ? 'it scatters one reply over thousands of pieces' : null
  }

  /** Index of the first island that starts after `start`. */
  #indexAfter(start: number): number {
    let low = 0
    let high = this.#islands.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#islands[middle]?.start ?? 0) > start) high = middle
      else low = middle + 1
    }
    return low
  }
}
