/** The `Range` header of RFC 9110: one range of bytes. Several at once may be ignored, and are. */
import { HoldfastError } from '../domain/errors.ts'
import type { ByteRange } from '../mounts/file-reader.ts'

/** `null`: the whole file is to be sent. `RANGE_NOT_SATISFIABLE`, with the file's size, for what begins behind its end. */
export function rangeOf(header: string | undefined, sizeBytes: number): ByteRange | null {
  const parts = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(header ?? '')
  const [first, last] = [parts?.[1] ?? '', parts?.[2] ?? '']
  // Of nothing there is no part that could be named.
  if ((first === '' && last === '') || sizeBytes === 0) return null
  if (first === '') return suffix(Number(last), sizeBytes)
  const offset = Number(first)
  const end = last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1)
  if (last !== '' && BigInt(last) < BigInt(first)) return null
  if (offset >= sizeBytes) throw notSatisfiable(sizeBytes)
  return { offset, length: end - offset + 1 }
}

function suffix(wanted: number, sizeBytes: number): ByteRange {
  if (wanted === 0) throw notSatisfiable(sizeBytes)
  const length = Math.min(wanted, sizeBytes)
  return { offset: sizeBytes - length, length }
}

function notSatisfiable(sizeBytes: number): HoldfastError {
  return new HoldfastError(
    'RANGE_NOT_SATISFIABLE',
    `The range asked for lies behind the end of the file, which has ${sizeBytes} bytes.`,
    {
      details: { size_bytes: sizeBytes },
    },
  )
}
