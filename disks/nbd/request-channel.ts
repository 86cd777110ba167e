import { HoldfastError } from '../../domain/errors.ts'
import type { Extent } from './block-status.ts'
import { protocolError } from './endpoint.ts'
import type { Negotiated } from './negotiation.ts'
import { PendingRequest, type RequestTerms } from './pending-request.ts'
import { commandFlags, commands, encodeRequest } from './protocol.ts'
import { ReplyParser } from './reply-parser.ts'
import type { Transport } from './transport.ts'

export interface ChannelTerms {
  /** For messages. */
  endpoint: string
  negotiated: Negotiated
  requestTimeoutMs: number
  signal: AbortSignal | undefined
}

/** Requests and their answers over a negotiated transport: cookies, deadlines, and one end for everything under way. */
export class RequestChannel {
  /** Resolves when the channel has ended: with the reason, or `undefined` after {@link close}. Never rejects. */
  readonly closed: Promise<HoldfastError | undefined>
  readonly #endpoint: string
  readonly #transport: Transport
  readonly #requestTimeoutMs: number
  readonly #signal: AbortSignal | undefined
  readonly #pending = new Map<number, PendingRequest>()
  readonly #resolveClosed: (reason: HoldfastError | undefined) => void
  readonly #sweep: NodeJS.Timeout
  readonly #onAbort = (): void => this.#abort()
  #nextCookie = 1
  /** What every request gets once the channel has ended. */
  #ended: { reason: unknown } | null = null

  constructor(transport: Transport, terms: ChannelTerms) {
    this.#transport = transport
    this.#endpoint = terms.endpoint
    this.#requestTimeoutMs = terms.requestTimeoutMs
    this.#signal = terms.signal
    const { promise, resolve } = Promise.withResolvers<HoldfastError | undefined>()
    this.closed = promise
    this.#resolveClosed = resolve
    const parser = new ReplyParser({ ...terms.negotiated, endpoint: terms.endpoint, pending: this.#pending })
    transport.listen({ onBytes: (bytes) => this.#receive(parser, bytes), onLost: (cause) => this.#lose(cause) })
    this.#sweep = setInterval(() => this.#checkDeadline(), this.#sweepMs).unref()
    this.#signal?.addEventListener('abort', this.#onAbort)
  }

  /** Requests sent and not yet answered. */
  get pendingCount(): number {
    return this.#pending.size
  }

  get usable(): boolean {
    return this.#ended === null
  }

  /** Sends one request; `payload` must stay unchanged until it is answered. Resolves with the extents of a block status. */
  request(terms: RequestTerms, payload?: Buffer, flags: number = commandFlags.none): Promise<Map<string, Extent[]>> {
    if (this.#ended) return Promise.reject(this.#ended.reason)
    const cookie = this.#nextCookie++
    const request = new PendingRequest(terms, performance.now())
    this.#pending.set(cookie, request)
    const { command, offset, length } = terms
    this.#transport.send(encodeRequest({ command, flags, cookie, offset, length }), payload)
    return request.promise
  }

  /** Says goodbye and closes; requests still under way reject. Idempotent. */
  async close(): Promise<void> {
    if (this.#ended) return
    const reason = new HoldfastError(
      'NBD_CONNECT_FAILED',
      `The connection to the NBD server at ${this.#endpoint} was closed by this side.`,
      {
        details: { endpoint: this.#endpoint },
      },
    )
    this.#end(reason, undefined)
    await this.#transport.end(encodeRequest({ command: commands.disconnect, flags: 0, cookie: 0, offset: 0, length: 0 }))
  }

  /** Ends the channel because of `error`, which every request under way gets. Returns it. */
  fail(error: HoldfastError): HoldfastError {
    this.#end(error, error)
    this.#transport.destroy()
    return error
  }

  #receive(parser: ReplyParser, bytes: Buffer): void {
    try {
      parser.feed(bytes)
    } catch (error) {
      this.fail(error instanceof HoldfastError ? error : protocolError(this.#endpoint, String(error)))
    }
  }

  get #sweepMs(): number {
    return Math.max(10, Math.min(1_000, this.#requestTimeoutMs / 4))
  }

  /** One timer for all requests: the map is ordered by age, so only the first needs a look. */
  #checkDeadline(): void {
    const overdue = this.#oldestOverdue()
    if (!overdue) return
    // We ourselves may have slept (busy loop, suspended host) while the answer waits unread: the socket gets a turn first.
    setImmediate(() => {
      if (overdue === this.#oldestOverdue()) this.fail(this.#timeout(overdue.terms))
    })
  }

  #oldestOverdue(): PendingRequest | null {
    const oldest = this.#pending.values().next().value
    return oldest && performance.now() - oldest.startedAtMs >= this.#requestTimeoutMs ? oldest : null
  }

  #timeout({ offset, length }: RequestTerms): HoldfastError {
    return new HoldfastError(
      'NBD_TIMEOUT',
      `The NBD server at ${this.#endpoint} did not answer within ${this.#requestTimeoutMs} ms; the connection was closed.`,
      { details: { endpoint: this.#endpoint, offset, length } },
    )
  }

  #lose(cause: Error | undefined): void {
    const why = cause ? cause.message : 'the server hung up'
    this.fail(
      new HoldfastError('NBD_CONNECT_FAILED', `The connection to the NBD server at ${this.#endpoint} was lost: ${why}.`, {
        details: { endpoint: this.#endpoint },
        cause,
      }),
    )
  }

  #abort(): void {
    const reason: unknown = this.#signal?.reason
    this.#end(
      reason,
      new HoldfastError('CANCELLED', `The connection to the NBD server at ${this.#endpoint} was cancelled.`, { cause: reason }),
    )
    this.#transport.destroy()
  }

  #end(reason: unknown, closedBecause: HoldfastError | undefined): void {
    if (this.#ended) return
    this.#ended = { reason }
    clearInterval(this.#sweep)
    this.#signal?.removeEventListener('abort', this.#onAbort)
    const requests = [...this.#pending.values()]
    this.#pending.clear()
    for (const request of requests) request.reject(reason)
    this.#resolveClosed(closedBecause)
  }
}
