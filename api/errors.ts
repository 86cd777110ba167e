/** The one table from error codes to HTTP, and the one place where a failure becomes an answer. No stack and no SQL leaves through here. */
import type { Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { HoldfastError } from '../domain/errors.ts'
import type { ErrorCode, JsonObject } from '../domain/errors.ts'
import type { Logger } from '../runtime/logger.ts'

/** Every code of the taxonomy has its status; a new code does not compile until it is here. docs/api.md shows the same table. */
export const httpStatus = {
  INVALID_REQUEST: 400,
  UNAUTHENTICATED: 401,
  INVALID_CREDENTIALS: 401,
  LOGIN_THROTTLED: 429,
  FORBIDDEN: 403,
  ROUTE_NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  BODY_TOO_LARGE: 413,
  UNSUPPORTED_MEDIA_TYPE: 415,
  IDEMPOTENCY_CONFLICT: 409,
  VM_NOT_FOUND: 404,
  VM_EXISTS: 409,
  VM_NAME_AMBIGUOUS: 409,
  VM_BUSY: 409,
  REPO_NOT_FOUND: 404,
  REPO_EXISTS: 409,
  REPO_DISABLED: 409,
  REPO_INVALID: 422,
  REPO_TYPE_UNSUPPORTED: 400,
  REPO_IN_USE: 409,
  REPO_CRITICAL: 409,
  REPO_BUSY: 409,
  REPO_AUTHENTICATION_FAILED: 422,
  CONNECTION_FAILED: 422,
  REPO_UNAVAILABLE: 503,
  INSUFFICIENT_STORAGE: 507,
  BACKUP_NOT_FOUND: 404,
  BACKUP_NOT_RUNNING: 409,
  BACKUP_NOT_COMPLETED: 409,
  BACKUP_HAS_DEPENDENTS: 409,
  BACKUP_PINNED: 409,
  BACKUP_CORRUPT: 422,
  CORRUPT_CHAIN: 422,
  CHAIN_NOT_FOUND: 404,
  IMMUTABLE_RETENTION_ACTIVE: 409,
  IMMUTABILITY_UNSUPPORTED: 422,
  LOCK_FAILED: 502,
  DISK_NOT_FOUND: 404,
  CANCELLED: 409,
  RESTORE_NOT_FOUND: 404,
  RESTORE_NOT_RUNNING: 409,
  RESTORE_TARGET_INVALID: 400,
  RESTORE_TARGET_EXISTS: 409,
  RESTORE_NOT_CONFIRMED: 400,
  VM_RUNNING: 409,
  MOUNT_NOT_FOUND: 404,
  MOUNT_NOT_READY: 503,
  MOUNT_INTERRUPTED: 503,
  MOUNT_LIMIT_REACHED: 409,
  MOUNT_DRIVER_UNAVAILABLE: 422,
  FILE_SYSTEM_UNREADABLE: 422,
  FILE_PATH_INVALID: 400,
  FILE_NOT_FOUND: 404,
  NOT_A_FILE: 409,
  NOT_A_DIRECTORY: 409,
  FILE_READ_FAILED: 502,
  RANGE_NOT_SATISFIABLE: 416,
  SOURCE_INVALID: 422,
  SOURCE_TYPE_UNSUPPORTED: 400,
  SOURCE_NOT_FOUND: 422,
  SOURCE_CONNECTION_NOT_FOUND: 404,
  SOURCE_EXISTS: 409,
  SOURCE_IN_USE: 409,
  SOURCE_AUTHENTICATION_FAILED: 422,
  SOURCE_CHANGED: 409,
  SOURCE_BUSY: 503,
  SOURCE_UNAVAILABLE: 503,
  DISK_READ_FAILED: 502,
  DISK_WRITE_FAILED: 502,
  NBD_CONNECT_FAILED: 502,
  NBD_TIMEOUT: 504,
  NBD_PROTOCOL_ERROR: 502,
  NBD_REQUEST_FAILED: 502,
  ALERT_NOT_FOUND: 404,
  CREDENTIALS_KEY_INVALID: 500,
  TOOL_MISSING: 500,
  TOOL_FAILED: 500,
  TOOL_TIMEOUT: 504,
  CATALOG_UNAVAILABLE: 503,
  ORCHESTRATOR_UNAVAILABLE: 503,
  MOVER_UNAVAILABLE: 503,
  INTERNAL: 500,
} as const satisfies Record<ErrorCode, ContentfulStatusCode>

export interface FailureAnswer {
  success: false
  error: string
  error_code: ErrorCode
  [detail: string]: JsonObject[string]
}

/** The body of a failure: details stand beside the fixed fields and never replace them. */
export function failureAnswer(error: HoldfastError): FailureAnswer {
  return { ...error.details, success: false, error: error.message, error_code: error.code }
}

/** The last stop of every failure. What nobody foresaw is logged whole and answered with nothing but the request's id. */
export function answerFailure(error: unknown, c: Context, logger: Logger): Response {
  const known = asHoldfastError(error)
  const status = known ? httpStatus[known.code] : 500
  if (status >= 500) logger.error({ err: error, status }, 'request failed')
  const answered = inOurWords(known)
  if (known?.retryable === true) c.header('Retry-After', '5')
  const retryAfter = known?.details['retry_after_seconds']
  if (typeof retryAfter === 'number') c.header('Retry-After', String(Math.ceil(retryAfter)))
  if (status === 401) c.header('WWW-Authenticate', 'Bearer')
  const sizeBytes = known?.details['size_bytes']
  if (status === 416 && typeof sizeBytes === 'number') c.header('Content-Range', `bytes */${sizeBytes}`)
  const allowed = known?.details['allowed_methods']
  if (Array.isArray(allowed)) c.header('Allow', allowed.filter((method) => typeof method === 'string').join(', '))
  const requestId: unknown = c.get('requestId')
  return c.json({ ...failureAnswer(answered), ...(typeof requestId === 'string' && { request_id: requestId }) }, status)
}

/** Hono reports malformed bodies and media types in its own exceptions. */
function asHoldfastError(error: unknown): HoldfastError | undefined {
  if (error instanceof HoldfastError) return error
  if (!(error instanceof HTTPException)) return undefined
  if (error.status === 415) {
    return new HoldfastError('UNSUPPORTED_MEDIA_TYPE', 'The body must be JSON: send it with "Content-Type: application/json".', {
      cause: error,
    })
  }
  if (error.status >= 500) return undefined
  return new HoldfastError('INVALID_REQUEST', 'The body is not valid JSON.', { cause: error })
}

/** An unforeseen error's words may name files, queries, users or values: those are for the log. */
function inOurWords(known: HoldfastError | undefined): HoldfastError {
  if (!known || known.code === 'INTERNAL') {
    return new HoldfastError('INTERNAL', 'Something went wrong inside Holdfast; the log holds the reason under this request id.')
  }
  if (known.code === 'CATALOG_UNAVAILABLE') {
    return new HoldfastError(
      'CATALOG_UNAVAILABLE',
      'The catalog does not answer just now. Try again shortly; the log holds the reason.',
    )
  }
  return known
}
