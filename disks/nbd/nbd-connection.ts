import { HoldfastError } from '../../domain/errors.ts'
import type { NbdEndpoint } from '../../sources/source.ts'
import { clipExtents, type Extent } from './block-status.ts'
import { endpointUri, protocolError } from './endpoint.ts'
import { HandshakeStream } from './handshake-stream.ts'
import type { NbdExport } from './nbd-export.ts'
import { negotiate } from './negotiation.ts'
import { requestFailed, type RequestTerms } from './pending-request.ts'
import { commandFlags, commands } from './protocol.ts'
import { RequestChannel } from './request-channel.ts'
import { aligned, pieces, statusRange, type ByteRange } from './request-shape.ts'
import { Transport } from './transport.ts'

export interface NbdOptions {
  /** For connecting and the handshake together. */
  connectTimeoutMs?: number
  /** For each request, from being sent to its last byte. */
  requestTimeoutMs?: number
  /** Default `false`; metadata contexts bring them in by themselves. */
  structuredReplies?: boolean
  /** Metadata contexts to ask for; those granted are in `export.metaContexts`. */
  metaContexts?: readonly string[]
  /** Aborting closes the connection; everything under way rejects with the signal's reason. */
  signal?: AbortSignal | undefined
}

const CONNECT_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 60_000
/** WRITE_ZEROES carries no data, but a server may have to write it all: pieces that finish well within a deadline. */
const ZEROES_BYTES_MAX = 128 * 1024 * 1024

/**
 * One socket to an NBD server. Requests may be sent without awaiting earlier ones; answers come in any order.
 *
 * Errors are `HoldfastError`s. `NBD_REQUEST_FAILED` (details `offset`, `length`, `errno`) concerns one request and leaves
 * the connection usable. `NBD_TIMEOUT`, `NBD_PROTOCOL_ERROR` and `NBD_CONNECT_FAILED` (connection lost or closed) end the
 * connection and everything under way on it. Nothing is ever retried here. After a failed read the buffer's content is undefined,
 * but nobody writes to it any more; after a failed write the range may or may not have been written.
 */
export class NbdConnection {
  readonly export: NbdExport
  /** Resolves when the connection has ended: with the reason, or `undefined` after {@link close}. Never rejects. */
  readonly closed: Promise<HoldfastError | undefined>
  readonly #endpoint: string
  readonly #channel: RequestChannel

  /** Connects and negotiates. Throws `NBD_CONNECT_FAILED`, `NBD_TIMEOUT`, `NBD_PROTOCOL_ERROR` or the signal's reason; then nothing stays open. */
  static async connect(endpoint: NbdEndpoint, options: NbdOptions = {}): Promise<NbdConnection> {
    options.signal?.throwIfAborted()
    const uri = endpointUri(endpoint)
    const timeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS
    const stream = new HandshakeStream(uri)
    const transport = new Transport(endpoint, stream)
    const abort = (): void => stream.fail(options.signal?.reason)
    const deadline = setTimeout(() => stream.fail(connectTimeout(uri, timeoutMs)), timeoutMs)
    options.signal?.addEventListener('abort', abort)
    try {
      const negotiated = await negotiate(
        { stream, send: (bytes) => transport.send(bytes) },
        {
          exportName: endpoint.exportName,
          structuredReplies: options.structuredReplies ?? false,
          metaContexts: options.metaContexts ?? [],
        },
      )
      stream.finish()
      const requestTimeoutMs = options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS
      const channel = new RequestChannel(transport, { endpoint: uri, negotiated, requestTimeoutMs, signal: options.signal })
      return new NbdConnection(uri, channel, negotiated.export)
    } catch (error) {
      transport.destroy()
      throw error
    } finally {
      clearTimeout(deadline)
      options.signal?.removeEventListener('abort', abort)
    }
  }

  private constructor(endpoint: string, channel: RequestChannel, nbdExport: NbdExport) {
    this.#endpoint = endpoint
    this.#channel = channel
    this.export = nbdExport
    this.closed = channel.closed
  }

  /** Requests sent and not yet answered. */
  get pendingCount(): number {
    return this.#channel.pendingCount
  }

  /** Whether requests can still be sent. */
  get usable(): boolean {
    return this.#channel.usable
  }

  /** Fills `into[0, length)` with the disk's bytes from `offset`. A range off the server's block size is read with its surroundings. */
  async read(offset: number, length: number, into: Buffer): Promise<void> {
    const terms: RequestTerms = { command: commands.read, offset, length, into }
    if (into.length < length) throw requestFailed(this.#endpoint, terms, 'EINVAL', 'the buffer is shorter than the range')
    this.#checkRange(terms)
    const around = aligned(offset, length, this.export)
    if (around.offset !== offset || around.length !== length) {
      if (around.offset + around.length > this.export.sizeBytes) throw this.#misaligned(terms)
      const wide = Buffer.allocUnsafe(around.length)
      await this.read(around.offset, around.length, wide)
      wide.copy(into, 0, offset - around.offset, offset - around.offset + length)
      return
    }
    await this.#inPieces(terms, this.export.maxBlockBytes, (piece) => {
      const target = into.subarray(piece.offset - offset, piece.offset - offset + piece.length)
      return this.#channel.request({ command: commands.read, ...piece, into: target })
    })
  }

  /** Writes `data` at `offset`. `data` must stay unchanged until the promise settles. Durable only after {@link flush}. */
  async write(offset: number, data: Buffer): Promise<void> {
    const terms: RequestTerms = { command: commands.write, offset, length: data.length }
    this.#checkWritable(terms)
    await this.#inPieces(terms, this.export.maxBlockBytes, (piece) =>
      this.#channel.request(
        { command: commands.write, ...piece },
        data.subarray(piece.offset - offset, piece.offset - offset + piece.length),
      ),
    )
  }

  /** Makes the range read as zeroes; `noHole` asks the server to keep it allocated. Sends zeroes to servers without WRITE_ZEROES. */
  async writeZeroes(offset: number, length: number, options: { noHole?: boolean } = {}): Promise<void> {
    const terms: RequestTerms = { command: commands.writeZeroes, offset, length }
    this.#checkWritable(terms)
    if (!this.export.canWriteZeroes) {
      const { maxBlockBytes } = this.export
      const zeroes = Buffer.alloc(Math.min(length, maxBlockBytes))
      await this.#inPieces(terms, maxBlockBytes, (piece) =>
        this.#channel.request({ command: commands.write, ...piece }, zeroes.subarray(0, piece.length)),
      )
      return
    }
    const flags = options.noHole ? commandFlags.noHole : commandFlags.none
    await this.#inPieces(terms, ZEROES_BYTES_MAX, (piece) =>
      this.#channel.request({ command: commands.writeZeroes, ...piece }, undefined, flags),
    )
  }

  /** Makes every write that was answered before this call durable. Rejects if the server cannot promise that. */
  async flush(): Promise<void> {
    const terms: RequestTerms = { command: commands.flush, offset: 0, length: 0 }
    if (!this.export.canFlush)
      throw requestFailed(this.#endpoint, terms, 'ENOTSUP', 'the server cannot flush, so nothing it stores is certain')
    await this.#channel.request(terms)
  }

  /**
   * Extents of one metadata context from `offset` on, in one request below 4 GiB: contiguous, starting at `offset`, at
   * least one, perhaps describing less than `length`. The context must be among `export.metaContexts`.
   */
  async blockStatus(offset: number, length: number, contextName: string): Promise<Extent[]> {
    const terms: RequestTerms = { command: commands.blockStatus, offset, length }
    if (!this.export.metaContexts.includes(contextName)) {
      throw requestFailed(this.#endpoint, terms, 'ENOTSUP', `the server did not grant the metadata context ${contextName}`)
    }
    this.#checkRange(terms)
    if (length === 0) return []
    const range = statusRange(offset, length, this.export)
    const reply = (await this.#channel.request({ command: commands.blockStatus, ...range })).get(contextName)
    if (!reply) throw this.#channel.fail(protocolError(this.#endpoint, `block status without ${contextName}`))
    const extents = clipExtents(reply, offset, offset + length)
    if (extents.length === 0)
      throw this.#channel.fail(protocolError(this.#endpoint, 'block status that describes nothing of what was asked'))
    return extents
  }

  /** Says goodbye and closes; requests still under way reject. Idempotent. */
  close(): Promise<void> {
    return this.#channel.close()
  }

  async #inPieces(terms: RequestTerms, sizeBytesMax: number, send: (piece: ByteRange) => Promise<unknown>): Promise<void> {
    if (terms.length <= sizeBytesMax) {
      if (terms.length > 0) await send({ offset: terms.offset, length: terms.length })
      return
    }
    // All pieces are awaited even when one fails: their buffers belong to the caller again only after the last answer.
    const results = await Promise.allSettled(pieces(terms.offset, terms.length, sizeBytesMax).map(send))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
  }

  #checkRange(terms: RequestTerms): void {
    const { offset, length } = terms
    if (
      !Number.isSafeInteger(offset) ||
      !Number.isSafeInteger(length) ||
      offset < 0 ||
      length < 0 ||
      offset + length > this.export.sizeBytes
    ) {
      throw requestFailed(this.#endpoint, terms, 'EINVAL', `the range leaves the disk of ${this.export.sizeBytes} bytes`)
    }
  }

  #checkWritable(terms: RequestTerms): void {
    if (this.export.readOnly) throw requestFailed(this.#endpoint, terms, 'EPERM', 'the export is read-only')
    this.#checkRange(terms)
    const { minBlockBytes } = this.export
    // Rounding a write outward would mean reading and rewriting neighbours that others may be writing.
    if (terms.offset % minBlockBytes !== 0 || terms.length % minBlockBytes !== 0) throw this.#misaligned(terms)
  }

  #misaligned(terms: RequestTerms): HoldfastError {
    return requestFailed(this.#endpoint, terms, 'EINVAL', `the server takes only multiples of ${this.export.minBlockBytes} bytes`)
  }
}

function connectTimeout(endpoint: string, timeoutMs: number): HoldfastError {
  return new HoldfastError(
    'NBD_TIMEOUT',
    `The NBD server at ${endpoint} did not complete the handshake within ${timeoutMs} ms. It may allow no more connections.`,
    { details: { endpoint } },
  )
}
