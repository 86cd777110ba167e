import { HoldfastError } from '../../domain/errors.ts'
import { protocolError } from './endpoint.ts'
import type { TransportListener } from './transport.ts'

/** A server has no reason to send more than this ahead of what we read during the handshake. */
const BUFFERED_BYTES_MAX = 256 * 1024

/** The handshake's conversation: exact reads of what arrived, from one reader at a time. */
export class HandshakeStream implements TransportListener {
  readonly endpoint: string
  #buffered: Buffer = Buffer.alloc(0)
  #failure: { reason: unknown } | null = null
  #waiting: { sizeBytes: number; resolve: (bytes: Buffer) => void; reject: (reason: unknown) => void } | null = null

  constructor(endpoint: string) {
    this.endpoint = endpoint
  }

  onBytes(bytes: Buffer): void {
    if (this.#buffered.length + bytes.length > BUFFERED_BYTES_MAX) {
      this.fail(protocolError(this.endpoint, 'it sends without end during the handshake'))
      return
    }
    // `bytes` is borrowed from the transport; concat copies it.
    this.#buffered = Buffer.concat([this.#buffered, bytes])
    this.#serve()
  }

  onLost(cause: Error | undefined): void {
    const why = cause
      ? cause.message
      : 'the server hung up during the handshake; it may not have this export, or allow no more connections'
    this.fail(
      new HoldfastError('NBD_CONNECT_FAILED', `No connection to the NBD server at ${this.endpoint}: ${why}.`, {
        details: { endpoint: this.endpoint },
        cause,
      }),
    )
  }

  /** The next `sizeBytes` bytes. Rejects when the stream has failed. */
  read(sizeBytes: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#waiting = { sizeBytes, resolve, reject }
      this.#serve()
    })
  }

  /** Ends the conversation: the read under way and all later ones reject with `reason`. */
  fail(reason: unknown): void {
    this.#failure ??= { reason }
    this.#serve()
  }

  /** Ends the handshake. Throws if it failed meanwhile, or if the server sent something nobody asked for. */
  finish(): void {
    if (this.#failure) throw this.#failure.reason
    if (this.#buffered.length > 0) throw protocolError(this.endpoint, 'it sent replies before any request')
  }

  #serve(): void {
    const waiting = this.#waiting
    if (!waiting) return
    if (this.#failure) {
      this.#waiting = null
      waiting.reject(this.#failure.reason)
    } else if (this.#buffered.length >= waiting.sizeBytes) {
      this.#waiting = null
      const bytes = this.#buffered.subarray(0, waiting.sizeBytes)
      this.#buffered = this.#buffered.subarray(waiting.sizeBytes)
      waiting.resolve(bytes)
    }
  }
}
