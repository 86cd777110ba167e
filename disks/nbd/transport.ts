import { connect, type Socket } from 'node:net'
import type { NbdEndpoint } from '../../sources/source.ts'
import { endpointAddress } from './endpoint.ts'

/** One static buffer per connection receives everything; a unix socket hands over at most about 208 KiB at once. */
const RECEIVE_BUFFER_BYTES = 1024 * 1024

/** How long a server may take to hang up after we said goodbye. */
const GOODBYE_TIMEOUT_MS = 1_000

/** Who gets what arrives. `bytes` is only valid during the call: the memory is used again for the next read. */
export interface TransportListener {
  onBytes(bytes: Buffer): void
  /** Called once: the socket failed (`cause`) or the server hung up (`undefined`). Nothing comes after it. */
  onLost(cause: Error | undefined): void
}

/** A socket to an NBD server: receives without allocating, sends headers and payloads without copying. */
export class Transport {
  readonly #socket: Socket
  #listener: TransportListener
  #corked = false
  #gone = false

  /** Starts to connect; success shows as bytes (the server speaks first), failure as `onLost`. */
  constructor(endpoint: NbdEndpoint, listener: TransportListener) {
    this.#listener = listener
    const received = Buffer.allocUnsafeSlow(RECEIVE_BUFFER_BYTES)
    this.#socket = connect({
      ...endpointAddress(endpoint),
      onread: {
        buffer: received,
        callback: (sizeBytes) => {
          if (!this.#gone) this.#listener.onBytes(received.subarray(0, sizeBytes))
          return true
        },
      },
    })
    this.#socket.on('error', (error) => this.#lose(error))
    this.#socket.on('end', () => this.#lose(undefined))
    this.#socket.on('close', () => this.#lose(undefined))
  }

  /** Hands what arrives from now on to another listener. */
  listen(listener: TransportListener): void {
    this.#listener = listener
  }

  /**
   * Sends `header` and then `payload`, whose memory must stay unchanged until the reply arrives.
   * Everything sent in one turn of the event loop leaves in one system call.
   */
  send(header: Buffer, payload?: Buffer): void {
    if (this.#gone) return
    if (!this.#corked) {
      this.#corked = true
      this.#socket.cork()
      process.nextTick(() => {
        this.#corked = false
        this.#socket.uncork()
      })
    }
    this.#socket.write(header)
    if (payload) this.#socket.write(payload)
  }

  /** Drops the connection at once. The listener hears nothing more. */
  destroy(): void {
    this.#gone = true
    this.#socket.destroy()
  }

  /** Sends `farewell`, then closes; resolves when the socket is closed, by force if the server does not hang up. */
  async end(farewell: Buffer): Promise<void> {
    this.#gone = true
    if (this.#socket.closed) return
    const closed = new Promise<void>((resolve) => {
      this.#socket.once('close', () => resolve())
    })
    const force = setTimeout(() => this.#socket.destroy(), GOODBYE_TIMEOUT_MS)
    this.#socket.end(farewell)
    await closed
    clearTimeout(force)
  }

  #lose(cause: Error | undefined): void {
    if (this.#gone) return
    this.#gone = true
    this.#socket.destroy()
    this.#listener.onLost(cause)
  }
}
