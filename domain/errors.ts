/**
 * The one error taxonomy of Holdfast.
 *
 * Every failure that a person or another process can meet is a {@link HoldfastError} with a stable code.
 * Three tables translate it at the boundaries and nowhere else: `activities/failure.ts` (Temporal),
 * `api/errors.ts` (HTTP) and, later, the command line's exit codes.
 */

/** What trying again may do: `retryable` errors are expected to pass; the others need a person or another input. */
export interface ErrorKind {
  readonly retryable: boolean
}

const lasting: ErrorKind = { retryable: false }
const passing: ErrorKind = { retryable: true }

/** Every code, with whether Temporal may retry the step that raised it. Codes are part of the API: never rename one. */
export const errorKinds = {
  // Requests
  INVALID_REQUEST: lasting,
  UNAUTHENTICATED: lasting,
  INVALID_CREDENTIALS: lasting,
  LOGIN_THROTTLED: lasting,
  FORBIDDEN: lasting,
  ROUTE_NOT_FOUND: lasting,
  METHOD_NOT_ALLOWED: lasting,
  BODY_TOO_LARGE: lasting,
  UNSUPPORTED_MEDIA_TYPE: lasting,
  IDEMPOTENCY_CONFLICT: lasting,
  // VM contexts
  VM_NOT_FOUND: lasting,
  VM_EXISTS: lasting,
  VM_NAME_AMBIGUOUS: lasting,
  VM_BUSY: lasting,
  // Repositories
  REPO_NOT_FOUND: lasting,
  REPO_EXISTS: lasting,
  REPO_DISABLED: lasting,
  REPO_INVALID: lasting,
  REPO_TYPE_UNSUPPORTED: lasting,
  REPO_IN_USE: lasting,
  REPO_CRITICAL: lasting,
  REPO_BUSY: passing,
  REPO_AUTHENTICATION_FAILED: lasting,
  CONNECTION_FAILED: lasting,
  REPO_UNAVAILABLE: passing,
  INSUFFICIENT_STORAGE: lasting,
  // Backups
  BACKUP_NOT_FOUND: lasting,
  BACKUP_NOT_RUNNING: lasting,
  BACKUP_NOT_COMPLETED: lasting,
  BACKUP_HAS_DEPENDENTS: lasting,
  BACKUP_PINNED: lasting,
  BACKUP_CORRUPT: lasting,
  CORRUPT_CHAIN: lasting,
  CHAIN_NOT_FOUND: lasting,
  IMMUTABLE_RETENTION_ACTIVE: lasting,
  IMMUTABILITY_UNSUPPORTED: lasting,
  LOCK_FAILED: passing,
  DISK_NOT_FOUND: lasting,
  CANCELLED: lasting,
  // Restores
  RESTORE_NOT_FOUND: lasting,
  RESTORE_NOT_RUNNING: lasting,
  RESTORE_TARGET_INVALID: lasting,
  RESTORE_TARGET_EXISTS: lasting,
  RESTORE_NOT_CONFIRMED: lasting,
  VM_RUNNING: lasting,
  // Restore mounts and the files on them
  MOUNT_NOT_FOUND: lasting,
  MOUNT_NOT_READY: passing,
  MOUNT_INTERRUPTED: passing,
  MOUNT_LIMIT_REACHED: lasting,
  MOUNT_DRIVER_UNAVAILABLE: lasting,
  FILE_SYSTEM_UNREADABLE: lasting,
  FILE_PATH_INVALID: lasting,
  FILE_NOT_FOUND: lasting,
  NOT_A_FILE: lasting,
  NOT_A_DIRECTORY: lasting,
  FILE_READ_FAILED: lasting,
  RANGE_NOT_SATISFIABLE: lasting,
  // Sources
  SOURCE_INVALID: lasting,
  SOURCE_TYPE_UNSUPPORTED: lasting,
  SOURCE_NOT_FOUND: lasting,
  SOURCE_CONNECTION_NOT_FOUND: lasting,
  SOURCE_EXISTS: lasting,
  SOURCE_IN_USE: lasting,
  SOURCE_AUTHENTICATION_FAILED: lasting,
  SOURCE_CHANGED: lasting,
  SOURCE_BUSY: passing,
  SOURCE_UNAVAILABLE: passing,
  // Disks and NBD
  DISK_READ_FAILED: passing,
  DISK_WRITE_FAILED: passing,
  NBD_CONNECT_FAILED: passing,
  NBD_TIMEOUT: passing,
  NBD_PROTOCOL_ERROR: passing,
  NBD_REQUEST_FAILED: passing,
  // Alerts and keys
  ALERT_NOT_FOUND: lasting,
  CREDENTIALS_KEY_INVALID: lasting,
  // Programs and servers
  TOOL_MISSING: lasting,
  TOOL_FAILED: passing,
  TOOL_TIMEOUT: passing,
  CATALOG_UNAVAILABLE: passing,
  ORCHESTRATOR_UNAVAILABLE: passing,
  MOVER_UNAVAILABLE: passing,
  INTERNAL: lasting,
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof errorKinds

export type JsonValue = string | number | boolean | null | JsonValue[] | { [key: string]: JsonValue }
export type JsonObject = { [key: string]: JsonValue }

/**
 * A failure with a stable code. `message` is for people: what happened, to what, and what to do.
 * `details` are the machine-readable facts (ids, sizes in bytes); they reach API answers and histories, so never a secret.
 */
export class HoldfastError extends Error {
  override readonly name = 'HoldfastError'
  readonly code: ErrorCode
  readonly details: JsonObject
  readonly retryable: boolean

  constructor(
    code: ErrorCode,
    message: string,
    options: {
      details?: JsonObject
      cause?: unknown
      /** Overrides the code's own answer, for example an EIO that outlived its retries. */
      retryable?: boolean
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.details = options.details ?? {}
    this.retryable = options.retryable ?? errorKinds[code].retryable
  }
}

/** Whether `value` is one of our codes; for text that comes back from histories and rows. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(errorKinds, value)
}
