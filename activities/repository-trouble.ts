/**
 * Whether it is its repository that keeps a backup from going on. A dead share and a full disk show in many ways: as a write that fails, a file
 * that is missing, a program that complains. So when something fails, the repository is looked at, and what it says is what is reported.
 */
import { activityInfo, cancellationSignal } from '@temporalio/activity'
import { HoldfastError } from '../domain/errors.ts'
import type { ErrorCode, JsonObject } from '../domain/errors.ts'
import { parkedReasonOf } from '../domain/parking.ts'
import type { StorageInfo } from '../domain/storage.ts'
import type { Repository } from '../repositories/repository.ts'
import type { BackupLocation } from './backup-location.ts'

/** Under this a file system is full, whatever it says: the rest is of no use. */
const NOTHING_BYTES = 64 * 1024

/** Attempts of a short step before a repository that does not answer parks the backup: with the profile's back-off three seconds. */
const SHORT_STEP_ATTEMPTS = 3

/** What has nothing to do with the repository. */
const othersTrouble: ReadonlySet<ErrorCode> = new Set([
  'CANCELLED',
  'CATALOG_UNAVAILABLE',
  'DISK_READ_FAILED',
  'SOURCE_CHANGED',
  'SOURCE_UNAVAILABLE',
])

/**
 * Runs work on a backup's repository. A failure that the repository explains becomes `INSUFFICIENT_STORAGE`, `REPO_UNAVAILABLE` or the like, with its
 * `repository_id`: what a workflow parks a backup on. `more` goes into its details.
 */
export async function inRepository<T>(
  location: BackupLocation,
  work: () => Promise<T>,
  more: () => JsonObject = () => ({}),
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof HoldfastError) || cancellationSignal().aborted) throw error
    const explanation = await explain(location, error)
    throw explanation ? withDetails(explanation, more()) : error
  }
}

/** The same for a short step, which is tried a few times before a repository that does not answer ends it. */
export async function shortlyInRepository<T>(location: BackupLocation, work: () => Promise<T>): Promise<T> {
  try {
    return await inRepository(location, work)
  } catch (error) {
    throw unlessAwayTooOften(error, activityInfo().attempt, SHORT_STEP_ATTEMPTS)
  }
}

/** Makes the failure lasting that a repository which does not answer, or an attempt that hangs in it, met in so many attempts. */
export function unlessAwayTooOften(error: unknown, attempt: number, attemptsMax: number): unknown {
  if (!(error instanceof HoldfastError) || !error.retryable || attempt < attemptsMax) return error
  if (error.code !== 'SOURCE_BUSY' && parkedReasonOf(error) === null) return error
  return new HoldfastError(error.code, error.message, { details: error.details, cause: error, retryable: false })
}

/** Why the repository does not take what a backup writes; `null` when it does, or when waiting will not help. */
export async function troubleOf({ repository, reference }: BackupLocation): Promise<HoldfastError | null> {
  try {
    // Begins with the marker: an empty mount point has space, and takes files.
    await repository.createBackup(reference)
    const storage = await repository.storage()
    return storage.writable ? null : takesNoFiles(repository, storage)
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    if (error.details['errno'] === 'EROFS') return readOnly(repository, error)
    const ofRepository = withDetails(error, { repository_id: repository.id })
    return parkedReasonOf(ofRepository) === null ? null : ofRepository
  }
}

async function explain(location: BackupLocation, error: HoldfastError): Promise<HoldfastError | null> {
  if (othersTrouble.has(error.code)) return null
  const ofRepository = withDetails(error, { repository_id: location.repository.id })
  if (parkedReasonOf(ofRepository) !== null) return ofRepository
  const trouble = await troubleOf(location)
  if (!trouble) return null
  const { code, message, details, retryable } = trouble
  return new HoldfastError(code, message, { details, retryable, cause: error })
}

function takesNoFiles(repository: Repository, { availableBytes, totalInodes, usedInodes }: StorageInfo): HoldfastError {
  const details = { repository_id: repository.id, path: repository.root, available_bytes: availableBytes }
  if (availableBytes < NOTHING_BYTES || (totalInodes > 0 && usedInodes >= totalInodes)) {
    const message = `The repository ${repository.root} is full: ${availableBytes} bytes and ${Math.max(0, totalInodes - usedInodes)} inodes are free. Delete backups or add space.`
    return new HoldfastError('INSUFFICIENT_STORAGE', message, { details: { ...details, required_bytes: NOTHING_BYTES } })
  }
  const message = `The repository ${repository.root} takes no files although ${availableBytes} bytes are free: it is read-only, not ours to write, or a quota ends here.`
  return new HoldfastError('REPO_UNAVAILABLE', message, { details })
}

function readOnly(repository: Repository, cause: HoldfastError): HoldfastError {
  const message = `The repository ${repository.root} has become read-only: look for errors of its file system, and mount it for writing again.`
  return new HoldfastError('REPO_UNAVAILABLE', message, { details: { ...cause.details, repository_id: repository.id }, cause })
}

function withDetails(error: HoldfastError, more: JsonObject): HoldfastError {
  const { code, message, details, retryable, cause } = error
  return new HoldfastError(code, message, { details: { ...details, ...more }, retryable, cause })
}
