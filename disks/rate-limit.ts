import { setTimeout as delay } from 'node:timers/promises'

/** Longest burst after a pause: this much of a second's worth. */
const BURST_SECONDS = 0.25

/** A token bucket for bytes. Callers are served in turn, so that waiting lanes share the rate. */
export class RateLimit {
  readonly #bytesPerSecond: number | null
  #available = 0
  #filledAtMs = performance.now()
  #turn: Promise<void> = Promise.resolve()

  /** `null`: no limit. */
  constructor(bytesPerSecond: number | null) {
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Resolves when `bytes` may pass. Rejects with the signal's reason. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const rate = this.#bytesPerSecond
    if (rate === null) return
    const turn = this.#turn.then(() => this.#wait(bytes, rate, signal))
    this.#turn = turn.catch(() => undefined)
    await turn
  }

  async #wait(bytes: number, rate: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const nowMs = performance.now()
    this.#available = Math.min(rate * BURST_SECONDS, this.#available + ((nowMs - this.#filledAtMs) * rate) / 1_000)
    this.#filledAtMs = nowMs
    this.#available -= bytes
    // What is missing may be owed: a request larger than the bucket must pass some time.
    if (this.#available < 0) {
      await delay((-this.#available / rate) * 1_000, undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  }
}
