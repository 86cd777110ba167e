/** The pieces of a file in order, asked for before they are wanted, and never more than a few. */
import type { ByteRange } from '../file-reader.ts'
import { SLOT_BYTES } from './window.ts'

/** Pieces that are asked for or wait to be taken, besides the one that the caller has. */
const AHEAD = 3

/** Reads up to `length` bytes; fewer at the end of the file, and before a place that cannot be read. */
export type ReadPiece = (offset: number, length: number, signal: AbortSignal) => Promise<Uint8Array>

interface Asked {
  offset: number
  length: number
  piece: Promise<Uint8Array>
}

/** Ends at the end of the file or of the range. Throws what `readPiece` throws, after all that was read before. */
export async function* filePieces(
  readPiece: ReadPiece,
  range: ByteRange,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, undefined, undefined> {
  const left = new AbortController()
  const enough = signal ? AbortSignal.any([signal, left.signal]) : left.signal
  const end = range.offset + range.length
  // One at first: most files have no more.
  let [next, ahead]: [number, number] = [range.offset, 1]
  let asked: Asked[] = []
  try {
    for (;;) {
      for (; next < end && asked.length < ahead; next += SLOT_BYTES) asked.push(ask(readPiece, next, end, enough))
      const first = asked.shift()
      if (!first) return
      const bytes = await first.piece
      if (bytes.length === 0) return
      if (bytes.length < first.length) {
        // The end, or a place that cannot be read: the next answer from there says which.
        asked = []
        next = first.offset + bytes.length
        ahead = 1
      } else {
        ahead = AHEAD
        for (; next < end && asked.length < ahead; next += SLOT_BYTES) asked.push(ask(readPiece, next, end, enough))
      }
      yield bytes
    }
  } finally {
    left.abort()
  }
}

function ask(readPiece: ReadPiece, offset: number, end: number, signal: AbortSignal): Asked {
  const length = Math.min(SLOT_BYTES, end - offset)
  const piece = readPiece(offset, length, signal)
  // It is heard when it is its turn, which may never come.
  piece.catch(() => undefined)
  return { offset, length, piece }
}
