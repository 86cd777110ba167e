import type { NbdEndpoint } from '../../sources/source.ts'
import { mergeExtents, type Extent } from './block-status.ts'
import { NbdConnection, type NbdOptions } from './nbd-connection.ts'
import type { NbdExport } from './nbd-export.ts'

export interface NbdPoolOptions extends NbdOptions {
  /** How many connections are wanted. The server may allow fewer. */
  connections: number
}

/** Extra connections are a luxury: a server that lets them wait gets less patience than for the first. */
const EXTRA_CONNECT_TIMEOUT_MS = 2_000

/**
 * Several connections to one export, used in turn by load. Errors as in {@link NbdConnection}: a request is sent once,
 * never retried. A connection that ends takes its requests with it; the others go on. When all have ended, every request
 * rejects with the reason of the first.
 */
export class NbdPool {
  readonly export: NbdExport
  /** Knows the metadata contexts, and with them structured replies. */
  readonly #first: NbdConnection
  readonly #connections: readonly NbdConnection[]

  /**
   * Opens the first connection, and the extra ones only if the server says that several see the same disk (multi-conn).
   * Extra ones that are refused, closed or never answered are done without. Throws as {@link NbdConnection.connect}.
   */
  static async open(endpoint: NbdEndpoint, options: NbdPoolOptions): Promise<NbdPool> {
    const first = await NbdConnection.connect(endpoint, options)
    const wanted = first.export.canMultiConn ? options.connections - 1 : 0
    const connectTimeoutMs = Math.min(options.connectTimeoutMs ?? EXTRA_CONNECT_TIMEOUT_MS, EXTRA_CONNECT_TIMEOUT_MS)
    const results = await Promise.allSettled(
      Array.from({ length: Math.max(0, wanted) }, () =>
        NbdConnection.connect(endpoint, { ...options, connectTimeoutMs, metaContexts: [] }),
      ),
    )
    const extras = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    const alike = extras.filter((extra) => showsSameDisk(extra.export, first.export))
    await Promise.all(extras.filter((extra) => !alike.includes(extra)).map((stranger) => stranger.close()))
    if (options.signal?.aborted) {
      await Promise.all([first, ...alike].map((connection) => connection.close()))
      throw options.signal.reason
    }
    return new NbdPool(first, alike)
  }

  private constructor(first: NbdConnection, extras: readonly NbdConnection[]) {
    this.#first = first
    this.#connections = [first, ...extras]
    this.export = first.export
  }

  /** Connections that still work. */
  get connectionCount(): number {
    return this.#connections.filter((connection) => connection.usable).length
  }

  /** As {@link NbdConnection.read}. */
  read(offset: number, length: number, into: Buffer): Promise<void> {
    return this.#leastBusy().read(offset, length, into)
  }

  /** As {@link NbdConnection.write}. */
  write(offset: number, data: Buffer): Promise<void> {
    return this.#leastBusy().write(offset, data)
  }

  /** As {@link NbdConnection.writeZeroes}. */
  writeZeroes(offset: number, length: number, options: { noHole?: boolean } = {}): Promise<void> {
    return this.#leastBusy().writeZeroes(offset, length, options)
  }

  /**
   * Makes every write durable whose promise had resolved before this call, whichever connection carried it: one flush is
   * enough, because there are several connections only if the server shares its cache among them (NBD protocol, section
   * "Transmission flags", NBD_FLAG_CAN_MULTI_CONN).
   */
  flush(): Promise<void> {
    return this.#leastBusy().flush()
  }

  /**
   * The status of `[from, to)` in one metadata context: contiguous extents in order, neighbours with equal flags merged.
   * The context must have been asked for when opening; see `export.metaContexts` for whether it was granted.
   */
  extents(contextName: string, from: number, to: number): AsyncIterable<Extent> {
    return mergeExtents(this.#statusReplies(contextName, from, to))
  }

  /** As {@link NbdConnection.blockStatus}: one request, one answer, of which the memory is bounded. */
  blockStatus(offset: number, length: number, contextName: string): Promise<Extent[]> {
    return this.#first.blockStatus(offset, length, contextName)
  }

  /** Closes all connections; requests under way reject. Idempotent. */
  async close(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()))
  }

  async *#statusReplies(contextName: string, from: number, to: number): AsyncGenerator<Extent[]> {
    for (let offset = from; offset < to;) {
      const extents = await this.blockStatus(offset, to - offset, contextName)
      yield extents
      for (const extent of extents) offset = extent.offset + extent.length
    }
  }

  /**
   * The usable connection with the fewest requests. With metadata contexts the first one carries data only when it is the
   * last: QEMU looks up the allocation for every read with structured replies, which halves its speed on a full disk.
   */
  #leastBusy(): NbdConnection {
    const usable = this.#connections.filter((connection) => connection.usable)
    const data =
      this.export.metaContexts.length > 0 && usable.length > 1
        ? usable.filter((connection) => connection !== this.#first)
        : usable
    return data.reduce(
      (best, connection) => (connection.pendingCount < best.pendingCount ? connection : best),
      data[0] ?? this.#first,
    )
  }
}

function showsSameDisk(extra: NbdExport, first: NbdExport): boolean {
  return extra.sizeBytes === first.sizeBytes && extra.readOnly === first.readOnly && extra.minBlockBytes === first.minBlockBytes
}
