/**
 * The one place where a failure of mysql2 becomes a `HoldfastError`. Everything that leaves `db/` has passed through here:
 * `CATALOG_UNAVAILABLE` when trying again will help, `INTERNAL` when a statement or a constraint was refused. A query that expects
 * a refusal (a name that is taken, a row that is needed) asks the predicates below and throws the code that fits.
 */
import { HoldfastError } from '../domain/errors.ts'

/** What is kept of a driver error. Its `sql` property is left out: it holds the values, and with them password hashes. */
interface DriverFailure extends Error {
  code?: string
  errno?: number
  sqlState?: string
}

/** The server answers, but not us or not now. Until someone or something changes that, work waits instead of failing. */
const unavailableCodes = new Set([
  'ER_ACCESS_DENIED_ERROR',
  'ER_DBACCESS_DENIED_ERROR',
  'ER_BAD_DB_ERROR',
  'ER_CON_COUNT_ERROR',
  'ER_USER_LIMIT_REACHED',
  'ER_TOO_MANY_USER_CONNECTIONS',
  'ER_HOST_IS_BLOCKED',
  'ER_HOST_NOT_PRIVILEGED',
  'ER_SERVER_SHUTDOWN',
  'ER_NEW_ABORTING_CONNECTION',
  'ER_CONNECTION_KILLED',
  'ER_QUERY_INTERRUPTED',
  'ER_OUTOFMEMORY',
  'ER_OUT_OF_RESOURCES',
  'ER_DISK_FULL',
  'ER_RECORD_FILE_FULL',
  'ER_OPTION_PREVENTS_STATEMENT',
  'ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION',
  'PROTOCOL_CONNECTION_LOST',
  'PROTOCOL_SEQUENCE_TIMEOUT',
])

/** Two transactions stood in each other's way; one was rolled back and may simply be tried again. */
const contentionCodes = new Set(['ER_LOCK_DEADLOCK', 'ER_LOCK_WAIT_TIMEOUT', 'ER_CHECKREAD'])

/** For a connection that did not come about: whatever the reason, the server is out of reach for now. */
export function translateConnectionError(error: unknown): HoldfastError {
  return error instanceof HoldfastError ? error : outOfReach(withoutStatement(error))
}

/** For a statement that failed. */
export function translateDriverError(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error
  const failure = withoutStatement(error)
  if (contentionCodes.has(failure.code ?? '')) {
    const message = `The catalog is busy with the same rows (${reasonOf(failure)}). Try again.`
    return new HoldfastError('CATALOG_UNAVAILABLE', message, { cause: failure })
  }
  if (isOutOfReach(error, failure)) return outOfReach(failure)
  return new HoldfastError('INTERNAL', `The catalog refused a statement (${reasonOf(failure)}).`, { cause: failure })
}

/** A unique key refused the row. With `keyName`, only if it was that key. */
export function isDuplicateKey(error: unknown, keyName?: string): boolean {
  const failure = driverFailure(error)
  return failure?.code === 'ER_DUP_ENTRY' && (keyName === undefined || failure.message.endsWith(`'${keyName}'`))
}

/** A row could not go, because another row refers to it and the reference restricts. */
export function isStillReferenced(error: unknown): boolean {
  const code = driverFailure(error)?.code
  return code === 'ER_ROW_IS_REFERENCED_2' || code === 'ER_ROW_IS_REFERENCED'
}

/** A row refers to one that does not exist (any more). */
export function isMissingReference(error: unknown): boolean {
  const code = driverFailure(error)?.code
  return code === 'ER_NO_REFERENCED_ROW_2' || code === 'ER_NO_REFERENCED_ROW'
}

function driverFailure(error: unknown): DriverFailure | undefined {
  return error instanceof HoldfastError && error.cause instanceof Error ? error.cause : undefined
}

function withoutStatement(error: unknown): DriverFailure {
  if (!(error instanceof Error)) return new Error(String(error))
  const { code, errno, sqlState }: DriverFailure = error
  const kept: DriverFailure = new Error(error.message)
  if (error.stack !== undefined) kept.stack = error.stack
  if (code !== undefined) kept.code = code
  if (errno !== undefined) kept.errno = errno
  if (sqlState !== undefined) kept.sqlState = sqlState
  return kept
}

function outOfReach(failure: DriverFailure): HoldfastError {
  return new HoldfastError(
    'CATALOG_UNAVAILABLE',
    `The catalog's database does not answer (${reasonOf(failure)}). Check that MariaDB is running and that DATABASE_URL points to it; nothing needs restarting afterwards.`,
    { cause: failure },
  )
}

function reasonOf({ code, message }: DriverFailure): string {
  return code === undefined ? message : `${code}: ${message}`
}

/**
 * mysql2 marks as fatal what ended the connection; a socket's error carries the system call that failed; `EE_` stands before
 * what the server's own file system refused.
 */
function isOutOfReach(error: unknown, { code = '', message }: DriverFailure): boolean {
  if (typeof error !== 'object' || error === null) return false
  const ended = 'fatal' in error && error.fatal === true
  return ended || 'syscall' in error || unavailableCodes.has(code) || code.startsWith('EE_') || message === 'Pool is closed.'
}
