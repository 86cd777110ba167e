/** Takes numbers and counted bytes off a message, and never reads beyond it. */
import { senseless } from './protocol.ts'

export class ByteReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  number32(): number {
    return this.#take(4).readUInt32BE(0)
  }

  /** Unsigned; what is beyond exact numbers becomes the largest exact one. */
  number64(): number {
    const value = this.#take(8).readBigUInt64BE(0)
    return value > LARGEST ? Number.MAX_SAFE_INTEGER : Number(value)
  }

  /** Signed; what is beyond exact numbers becomes the nearest exact one. */
  signed64(): number {
    const value = this.#take(8).readBigInt64BE(0)
    if (value > LARGEST) return Number.MAX_SAFE_INTEGER
    return value < -LARGEST ? Number.MIN_SAFE_INTEGER : Number(value)
  }

  /** Bytes with their length in front, at most so many. */
  counted(most: number): Buffer {
    const length = this.number32()
    if (length > most) throw senseless(`${length} bytes where ${most} are the most`)
    return this.#take(length)
  }

  /** Throws when there is more than was taken. */
  end(): void {
    if (this.left !== 0) throw senseless(`${this.left} bytes too many`)
  }

  #take(length: number): Buffer {
    if (length > this.left) throw senseless(`a message that ends ${length - this.left} bytes too early`)
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }
}

const LARGEST = BigInt(Number.MAX_SAFE_INTEGER)
