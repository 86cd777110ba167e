/**
 * What is spoken with the reader (`guest/reader.pl`) over its serial line. Each message has its length in front of it (32 bits, big-endian, as all numbers).
 * A request: its id, one letter, what belongs to it. An answer: the id of the request, an error number (0: none), what belongs to it. The answer with the id 0 comes first,
 * unasked: the reader is there.
 *
 * The disk may have taken the reader over: nothing it sends is believed. What is not as agreed ends it.
 */
import { HoldfastError } from '../../domain/errors.ts'

/** V: the volumes. L: a page of a folder. S: the status of one path. R: a piece of a file. */
export type Operation = 'V' | 'L' | 'S' | 'R'

export interface Answer {
  id: number
  errno: number
  payload: Buffer
}

/** The answer's id and error number. */
const ANSWER_HEADER_BYTES = 8
const LENGTH_BYTES = 4
/** The longest are lists of volumes; what is long otherwise goes through the window. */
const ANSWER_MAX_BYTES = 1024 * 1024
const ERRNO_MAX = 4_095
export const ID_MAX = 0xffff_ffff

export function encodeRequest(id: number, operation: Operation, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat([number32(id), Buffer.from(operation, 'latin1'), ...parts])
  return Buffer.concat([number32(body.length), body])
}

export function number16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

export function number32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

export function number64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}

/** Bytes with their length in front. */
export function counted(bytes: Uint8Array): Buffer {
  return Buffer.concat([number32(bytes.length), bytes])
}

/** Makes answers of what comes over the line, in whatever pieces. */
export class AnswerDecoder {
  #pieces: Buffer[] = []
  #held = 0
  /** Bytes that the next step needs. */
  #needed = LENGTH_BYTES

  /** The answers that are complete now. Throws {@link senseless}; nothing can be decoded after that. */
  push(piece: Buffer): Answer[] {
    this.#pieces.push(piece)
    this.#held += piece.length
    const answers: Answer[] = []
    while (this.#held >= this.#needed) {
      const bytes = this.#pieces.length === 1 && this.#pieces[0] ? this.#pieces[0] : Buffer.concat(this.#pieces)
      const length = lengthOf(bytes)
      this.#needed = LENGTH_BYTES + length
      this.#pieces = [bytes]
      if (bytes.length < this.#needed) break
      answers.push(answerIn(bytes.subarray(LENGTH_BYTES, this.#needed)))
      const rest = bytes.subarray(this.#needed)
      this.#pieces = rest.length === 0 ? [] : [rest]
      this.#held = rest.length
      this.#needed = LENGTH_BYTES
    }
    return answers
  }
}

function lengthOf(bytes: Buffer): number {
  const length = bytes.readUInt32BE(0)
  if (length < ANSWER_HEADER_BYTES || length > ANSWER_MAX_BYTES) throw senseless(`an answer of ${length} bytes`)
  return length
}

function answerIn(bytes: Buffer): Answer {
  const id = bytes.readUInt32BE(0)
  const errno = bytes.readUInt32BE(4)
  if (errno > ERRNO_MAX) throw senseless(`the error number ${errno}`)
  // A copy: what is kept of an answer must not keep a whole piece of the line.
  return { id, errno, payload: Buffer.from(bytes.subarray(ANSWER_HEADER_BYTES)) }
}

/** For what no honest reader sends. */
export function senseless(what: string): HoldfastError {
  return new HoldfastError(
    'MOUNT_INTERRUPTED',
    `The process that reads the backup's file systems sent ${what}, which makes no sense, and was ended. The disk may be damaged, or made to do harm.`,
    { details: { found: what } },
  )
}
