/** Errors as plain data: classes do not survive the way between threads and processes. */
import { HoldfastError, isErrorCode, type ErrorCode, type JsonObject } from './errors.ts'

export interface PortableError {
  code: string
  message: string
  details: JsonObject
  /** `null`: as the code says. */
  retryable: boolean | null
  cause: string | null
}

/** @param whose what failed, should the error be none of ours: "A disk thread". */
export function toPortable(error: unknown, whose: string): PortableError {
  if (error instanceof HoldfastError) {
    const { code, message, details, retryable } = error
    return { code, message, details, retryable, cause: error.cause instanceof Error ? String(error.cause) : null }
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return { code: 'INTERNAL', message: `${whose} failed: ${String(error)}`, details: {}, retryable: null, cause: stack }
}

/** The same error, but for its cause, which is text now. */
export function fromPortable({ code, message, details, retryable, cause }: PortableError): HoldfastError {
  const known: ErrorCode = isErrorCode(code) ? code : 'INTERNAL'
  return new HoldfastError(known, message, {
    details,
    ...(retryable === null ? {} : { retryable }),
    ...(cause === null ? {} : { cause }),
  })
}
