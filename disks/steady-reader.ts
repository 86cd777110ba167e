/** Reads a source through its troubles: what fails is asked again on fresh connections, a few times; never zeroes in place of data. */
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../domain/errors.ts'
import type { NbdEndpoint } from '../sources/source.ts'
import type { Extent } from './nbd/block-status.ts'
import { NbdPool } from './nbd/nbd-pool.ts'

/** Waits before the second, third … attempt. */
const RETRY_DELAYS_MS = [250, 1_000, 4_000]
/** Block status is asked for in stretches, so that the first answer does not wait for the last TiB. The server may answer less. */
const STATUS_STRETCH_BYTES = 1024 ** 3

export interface SteadyReaderOptions {
  endpoint: NbdEndpoint
  /** For messages and details. */
  diskIndex: number
  connections: number
  metaContexts: readonly string[]
  /** For each request; a server silent for longer counts as gone. */
  requestTimeoutMs?: number | undefined
  signal: AbortSignal
}

/** One generation of connections. */
interface Generation {
  pool: Promise<NbdPool>
  retired: boolean
}

/**
 * Concurrent reads share a pool. A read that fails retires the whole pool and goes on with a fresh one; reads that were under way in
 * the retired pool are repeated without that counting against them.
 *
 * Throws `DISK_READ_FAILED` (details `disk`, `offset`, `length`) when the attempts are used up: lasting when the server itself answered
 * with an error (a bad sector stays bad), retryable when it was silent or gone. On abort the signal's reason.
 */
export class SteadyReader {
  readonly #options: SteadyReaderOptions
  #generation: Generation
  #closed = false

  /** Opens the first pool. Its failure is the NBD client's own error. */
  static async open(options: SteadyReaderOptions): Promise<SteadyReader> {
    const reader = new SteadyReader(options)
    await reader.#generation.pool
    return reader
  }

  private constructor(options: SteadyReaderOptions) {
    this.#options = options
    this.#generation = this.#begin()
  }

  async sizeBytes(): Promise<number> {
    return (await this.#generation.pool).export.sizeBytes
  }

  /** The metadata contexts that the server granted. */
  async metaContexts(): Promise<readonly string[]> {
    return (await this.#generation.pool).export.metaContexts
  }

  /** Fills `into` with the disk's bytes from `offset` on. */
  read(offset: number, into: Buffer): Promise<void> {
    return this.#steadily({ offset, length: into.length }, (pool) => pool.read(offset, into.length, into))
  }

  /** The extents of `[from, to)`, contiguous and in order; neighbours may have equal flags. One answer of the server is in memory. */
  async *extents(contextName: string, from: number, to: number): AsyncGenerator<Extent> {
    for (let offset = from; offset < to;) {
      const start = offset
      const length = Math.min(to - start, STATUS_STRETCH_BYTES)
      const extents = await this.#steadily({ offset: start, length }, (pool) => pool.blockStatus(start, length, contextName))
      yield* extents
      for (const extent of extents) offset = extent.offset + extent.length
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    const pool = await this.#generation.pool.catch(() => null)
    await pool?.close()
  }

  async #steadily<T>(range: { offset: number; length: number }, ask: (pool: NbdPool) => Promise<T>): Promise<T> {
    for (let failures = 0; ;) {
      const generation = this.#generation
      try {
        return await ask(await generation.pool)
      } catch (error) {
        this.#options.signal.throwIfAborted()
        // Another read gave this pool up while we were waiting on it: not our failure.
        if (generation.retired && !this.#closed) continue
        failures += 1
        const pause = RETRY_DELAYS_MS[failures - 1]
        if (pause === undefined || this.#closed) throw this.#readFailed(range, failures, error)
        await delay(pause, undefined, { signal: this.#options.signal }).catch(() => this.#options.signal.throwIfAborted())
        await this.#retire(generation)
      }
    }
  }

  async #retire(generation: Generation): Promise<void> {
    if (generation.retired) return
    generation.retired = true
    const { promise, resolve, reject } = Promise.withResolvers<NbdPool>()
    promise.catch(() => undefined)
    this.#generation = { pool: promise, retired: false }
    // Closed first: a server may allow only so many connections.
    const old = await generation.pool.catch(() => null)
    await old?.close()
    this.#openPool().then(resolve, reject)
  }

  #begin(): Generation {
    const pool = this.#openPool()
    pool.catch(() => undefined)
    return { pool, retired: false }
  }

  #openPool(): Promise<NbdPool> {
    const { endpoint, connections, metaContexts, requestTimeoutMs, signal } = this.#options
    return NbdPool.open(endpoint, {
      connections,
      metaContexts,
      signal,
      ...(requestTimeoutMs === undefined ? {} : { requestTimeoutMs }),
    })
  }

  #readFailed(range: { offset: number; length: number }, attempts: number, cause: unknown): HoldfastError {
    const { diskIndex } = this.#options
    const answered = cause instanceof HoldfastError && cause.code === 'NBD_REQUEST_FAILED'
    return new HoldfastError(
      'DISK_READ_FAILED',
      `Disk ${diskIndex} could not be read at offset ${range.offset} (${range.length} bytes), ${attempts} times: ` +
        `${cause instanceof Error ? cause.message : String(cause)} Check the source's storage.`,
      { details: { disk: diskIndex, ...range }, cause, retryable: !answered },
    )
  }
}
