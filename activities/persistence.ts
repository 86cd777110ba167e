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
  // Shares come back; an attempt that still holds the lock ends. What copies a disk waits otherwise: see PARKED_AFTER.
  REPO_UNAVAILABLE: 20,
  SOURCE_UNAVAILABLE: 20,
  SOURCE_BUSY: 20,
  // Says nothing about the disk.
  CATALOG_UNAVAILABLE: Number.POSITIVE_INFINITY,
}

/** A transfer ends its step for these soon, because its workflow then waits, for as long as it takes, without a step that looks busy. */
export const PARKED_AFTER: Partial<Record<ErrorCode, number>> = { REPO_UNAVAILABLE: 3, REPO_BUSY: 3 }

/** Counts `error` at this position. Progress since the last failure starts the count anew. */
export function countStall(earlier: Stall | null, error: HoldfastError, atBytes: number): Stall {
  if (error.code === 'CATALOG_UNAVAILABLE') return { code: error.code, atBytes, times: 1 }
  const continued = earlier !== null && earlier.code !== 'CATALOG_UNAVAILABLE' && earlier.atBytes >= atBytes
  return { code: error.code, atBytes, times: continued ? earlier.times + 1 : 1 }
}

/** The same error, made lasting once it was met too often in a row. `parkedAfter`: codes that only end this attempt, and how often each is met. */
export function unlessPersistent(
  error: HoldfastError,
  stall: Stall,
  parkedAfter: Partial<Record<ErrorCode, number>> = {},
): HoldfastError {
  const { code, message, details } = error
  const parks = parkedAfter[code] !== undefined
  if (!error.retryable || stall.times < (parkedAfter[code] ?? timesMaxByCode[code] ?? TIMES_MAX)) return error
  const why = parks ? message : `${message} Given up after ${stall.times} attempts without progress.`
  return new HoldfastError(code, why, {
    details: { ...details, attempts_without_progress: stall.times },
    cause: error,
    retryable: false,
  })
}
