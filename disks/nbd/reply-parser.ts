import type { HoldfastError } from '../../domain/errors.ts'
import { blockStatusBytesMax, decodeExtents } from './block-status.ts'
import { protocolError } from './endpoint.ts'
import type { PendingRequest } from './pending-request.ts'
import {
  chunkDoneFlag,
  chunkErrorBit,
  chunks,
  commands,
  readableText,
  readUint64,
  SIMPLE_REPLY_MAGIC,
  STRING_BYTES_MAX,
  STRUCTURED_REPLY_MAGIC,
} from './protocol.ts'

const HEADER_BYTES = 16
const ERROR_CHUNK_BYTES_MAX = 4 + 2 + STRING_BYTES_MAX + 8
/** Error chunks of one reply before we stop believing that it will end. */
const IDLE_CHUNKS_MAX = 64

export interface ReplyExpectations {
  endpoint: string
  /** Requests on the wire by cookie. The parser takes out what is answered. */
  pending: Map<number, PendingRequest>
  structuredReplies: boolean
  contextNames: ReadonlyMap<number, string>
}

/** The structured chunk being received. */
interface Chunk {
  cookie: number
  request: PendingRequest
  flags: number
  type: number
}

/**
 * Turns bytes from the server into answers: payloads go straight from the receive buffer into the reader's buffer.
 *
 * The server is not trusted. Every length is checked against the request before a byte is stored, memory is bounded by
 * what was asked for (plus 8 MiB of block status at most), and a READ counts as answered only when each of its bytes
 * has arrived or was declared a hole. NBD protocol, sections "Simple reply message" and "Structured reply chunk message".
 */
export class ReplyParser {
  readonly #expect: ReplyExpectations
  /** Fixed-size parts that arrive torn in two are put together here. */
  #torn: Buffer = Buffer.alloc(0)
  #tornBytes = 0
  /** The next fixed-size part: its length and who reads it. */
  #partBytes = HEADER_BYTES
  #readPart: (bytes: Buffer, at: number) => void = this.#readHeader.bind(this)
  /** Where payload goes while some is expected. */
  #sink: Buffer | null = null
  #sinkAt = 0
  #sinkEnd = 0
  #afterSink: () => void = () => undefined

  constructor(expectations: ReplyExpectations) {
    this.#expect = expectations
  }

  /** Takes what arrived. Throws NBD_PROTOCOL_ERROR, after which the parser must not be fed again. */
  feed(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length) {
      at = this.#sink ? this.#fillSink(this.#sink, bytes, at) : this.#gatherPart(bytes, at)
    }
  }

  #fillSink(sink: Buffer, bytes: Buffer, at: number): number {
    const lengthBytes = Math.min(bytes.length - at, this.#sinkEnd - this.#sinkAt)
    bytes.copy(sink, this.#sinkAt, at, at + lengthBytes)
    this.#sinkAt += lengthBytes
    if (this.#sinkAt === this.#sinkEnd) {
      this.#sink = null
      this.#afterSink()
    }
    return at + lengthBytes
  }

  #gatherPart(bytes: Buffer, at: number): number {
    const missing = this.#partBytes - this.#tornBytes
    const available = bytes.length - at
    if (this.#tornBytes === 0 && available >= missing) {
      this.#readPart(bytes, at)
      return at + missing
    }
    const taken = Math.min(missing, available)
    if (this.#tornBytes === 0) this.#torn = Buffer.allocUnsafe(this.#partBytes)
    bytes.copy(this.#torn, this.#tornBytes, at, at + taken)
    this.#tornBytes += taken
    if (taken === missing) {
      this.#tornBytes = 0
      this.#readPart(this.#torn, 0)
    }
    return at + taken
  }

  #expectPart(partBytes: number, read: (bytes: Buffer, at: number) => void): void {
    this.#partBytes = partBytes
    this.#readPart = read
  }

  #expectHeader(): void {
    this.#expectPart(HEADER_BYTES, (bytes, at) => this.#readHeader(bytes, at))
  }

  #expectPayload(sink: Buffer, start: number, lengthBytes: number, then: () => void): void {
    this.#sink = sink
    this.#sinkAt = start
    this.#sinkEnd = start + lengthBytes
    this.#afterSink = then
  }

  #readHeader(bytes: Buffer, at: number): void {
    const magic = bytes.readUInt32BE(at)
    const cookie = readUint64(bytes, at + 8)
    if (magic !== SIMPLE_REPLY_MAGIC && magic !== STRUCTURED_REPLY_MAGIC)
      throw this.#broken(`a reply begins with ${magic.toString(16)}`)
    const request = this.#expect.pending.get(cookie)
    if (!request) throw this.#broken('it answers a request that was never made, or answers twice')
    if (magic === SIMPLE_REPLY_MAGIC) {
      this.#readSimpleReply(cookie, request, bytes.readUInt32BE(at + 4))
      return
    }
    if (!this.#expect.structuredReplies) throw this.#broken('a structured reply although none was agreed on')
    const chunk: Chunk = { cookie, request, flags: bytes.readUInt16BE(at + 4), type: bytes.readUInt16BE(at + 6) }
    this.#expectPart(4, (bytes, at) => this.#readChunk(chunk, bytes.readUInt32BE(at)))
  }

  #readSimpleReply(cookie: number, request: PendingRequest, errno: number): void {
    const { command, length, into } = request.terms
    if (errno !== 0) request.fail(this.#expect.endpoint, errno, '')
    else if (command === commands.blockStatus) throw this.#broken('a block status reply without status')
    else if (command === commands.read && into) {
      if (this.#expect.structuredReplies) throw this.#broken('data in a simple reply although structured ones were agreed on')
      this.#expectPayload(into, 0, length, () => this.#answered(cookie, request))
      this.#expectHeader()
      return
    }
    this.#answered(cookie, request)
  }

  #readChunk(chunk: Chunk, lengthBytes: number): void {
    const { command } = chunk.request.terms
    if (chunk.type & chunkErrorBit) this.#expectError(chunk, lengthBytes)
    else if (chunk.type === chunks.none) this.#expectNothing(chunk, lengthBytes)
    else if (chunk.type === chunks.offsetData && command === commands.read) this.#expectData(chunk, lengthBytes)
    else if (chunk.type === chunks.offsetHole && command === commands.read) this.#expectHole(chunk, lengthBytes)
    else if (chunk.type === chunks.blockStatus && command === commands.blockStatus) this.#expectStatus(chunk, lengthBytes)
    else throw this.#broken(`a chunk of type ${chunk.type} in answer to command ${command}`)
  }

  #expectNothing(chunk: Chunk, lengthBytes: number): void {
    if (lengthBytes !== 0 || (chunk.flags & chunkDoneFlag) === 0)
      throw this.#broken('an empty chunk that is not empty, or not the last')
    this.#chunkDone(chunk)
  }

  #expectData(chunk: Chunk, lengthBytes: number): void {
    const { offset, into } = chunk.request.terms
    if (lengthBytes <= 8 || !into) throw this.#broken(`a data chunk of ${lengthBytes} bytes`)
    this.#expectPart(8, (bytes, at) => {
      const start = readUint64(bytes, at) - offset
      this.#cover(chunk, start, lengthBytes - 8)
      this.#expectPayload(into, start, lengthBytes - 8, () => this.#chunkDone(chunk))
    })
  }

  #expectHole(chunk: Chunk, lengthBytes: number): void {
    const { offset, into } = chunk.request.terms
    if (lengthBytes !== 12 || !into) throw this.#broken(`a hole chunk of ${lengthBytes} bytes`)
    this.#expectPart(12, (bytes, at) => {
      const start = readUint64(bytes, at) - offset
      const holeBytes = bytes.readUInt32BE(at + 8)
      this.#cover(chunk, start, holeBytes)
      into.fill(0, start, start + holeBytes)
      this.#chunkDone(chunk)
    })
  }

  #cover(chunk: Chunk, start: number, lengthBytes: number): void {
    const wrong = chunk.request.coverage.add(start, lengthBytes)
    if (wrong) throw this.#broken(wrong)
  }

  #expectStatus(chunk: Chunk, lengthBytes: number): void {
    if (lengthBytes < 12 || lengthBytes > blockStatusBytesMax(chunk.request.terms.length)) {
      throw this.#broken(`a block status chunk of ${lengthBytes} bytes`)
    }
    const payload = Buffer.allocUnsafe(lengthBytes)
    this.#expectPayload(payload, 0, lengthBytes, () => {
      const name = this.#expect.contextNames.get(payload.readUInt32BE(0))
      if (name === undefined) throw this.#broken('block status of an unknown metadata context')
      if (chunk.request.extents.has(name)) throw this.#broken(`block status of ${name} twice in one reply`)
      const extents = decodeExtents(payload.subarray(4), chunk.request.terms)
      if (typeof extents === 'string') throw this.#broken(extents)
      chunk.request.extents.set(name, extents)
      this.#chunkDone(chunk)
    })
  }

  #expectError(chunk: Chunk, lengthBytes: number): void {
    if (lengthBytes < 6 || lengthBytes > ERROR_CHUNK_BYTES_MAX) throw this.#broken(`an error chunk of ${lengthBytes} bytes`)
    if (++chunk.request.idleChunks > IDLE_CHUNKS_MAX) throw this.#broken('error chunks without end')
    const payload = Buffer.allocUnsafe(lengthBytes)
    this.#expectPayload(payload, 0, lengthBytes, () => {
      const errno = payload.readUInt32BE(0)
      const textBytes = payload.readUInt16BE(4)
      if (errno === 0) throw this.#broken('an error chunk without an error')
      if (6 + textBytes > lengthBytes) throw this.#broken('an error chunk whose text is longer than itself')
      chunk.request.fail(this.#expect.endpoint, errno, readableText(payload.subarray(6, 6 + textBytes)))
      this.#chunkDone(chunk)
    })
  }

  #chunkDone(chunk: Chunk): void {
    this.#expectHeader()
    if ((chunk.flags & chunkDoneFlag) === 0) return
    const { request } = chunk
    if (!request.failure) {
      if (request.terms.command === commands.read && !request.coverage.complete) {
        throw this.#broken('it ends the reply to a read without all of its data')
      }
      if (request.terms.command === commands.blockStatus && request.extents.size === 0)
        throw this.#broken('a block status reply without status')
    }
    this.#answered(chunk.cookie, request)
  }

  #answered(cookie: number, request: PendingRequest): void {
    this.#expect.pending.delete(cookie)
    request.settle()
    this.#expectHeader()
  }

  #broken(what: string): HoldfastError {
    return protocolError(this.#expect.endpoint, what)
  }
}
