/** How far back the rate looks. */
const WINDOW_MS = 5_000

/** The rate of a growing count over the last seconds. */
export class RateMeter {
  #samples: { atMs: number; count: number }[] = []

  /** Adds a sample and returns the rate per second; 0 until there are two. */
  add(atMs: number, count: number): number {
    this.#samples.push({ atMs, count })
    this.#samples = this.#samples.filter((sample) => atMs - sample.atMs <= WINDOW_MS)
    const first = this.#samples[0]
    return first && atMs > first.atMs ? Math.round(((count - first.count) / (atMs - first.atMs)) * 1_000) : 0
  }
}
