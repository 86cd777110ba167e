/**
 * How long a resumable step keeps trying. A worker that crashed or stopped costs nothing: the step resumes, as often as it takes.
 * A disk that fails by itself again and again without getting any further must end, with the reason it gave.
 */
import type { ErrorCode } from '../domain/errors.ts'
import { HoldfastError } from '../domain/errors.ts'

/** Failures in a row at one position. Travels in heartbeats, so that it outlives the process. */
export interface Stall {
  code: ErrorCode
  atBytes: number
  times: number
}

/** With the profile's back-off six attempts take half a minute, twenty about a quarter of an hour. */
const TIMES_MAX = 6
const timesMaxByCode: Partial<Record<ErrorCode, number>> = {
  // Shares come back; an attempt that still holds the lock ends.
  REPO_UNAVAILABLE: 20,
  SOURCE_UNAVAILABLE: 20,
  SOURCE_BUSY: 20,
  // Says nothing about the disk.
  CATALOG_UNAVAILABLE: Number.POSITIVE_INFINITY,
}

/** Counts `error` at this position. Progress since the last failure starts the count anew. */
export function countStall(earlier: Stall | null, error: HoldfastError, atBytes: number): Stall {
  if (error.code === 'CATALOG_UNAVAILABLE') return { code: error.code, atBytes, times: 1 }
  const continued = earlier !== null && earlier.code !== 'CATALOG_UNAVAILABLE' && earlier.atBytes >= atBytes
  return { code: error.code, atBytes, times: continued ? earlier.times + 1 : 1 }
}

/** The same error, made lasting once it was met too often in a row. */
export function unlessPersistent(error: HoldfastError, stall: Stall): HoldfastError {
  const { code, message, details } = error
  if (!error.retryable || stall.times < (timesMaxByCode[code] ?? TIMES_MAX)) return error
  return new HoldfastError(code, `${message} Given up after ${stall.times} attempts without progress.`, {
    details: { ...details, attempts_without_progress: stall.times },
    cause: error,
    retryable: false,
  })
}
