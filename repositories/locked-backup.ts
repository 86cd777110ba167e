/** What a backup that cannot be removed has to say for itself. Locks are set and taken off by the locker; here they are only met. */
import { constants } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import { LOCKS_FOLDER, endOfLockRecord } from '../domain/repository-layout.ts'
import { errnoOf } from './file-errors.ts'

/**
 * Refuses while anything of a published backup is locked, or has a record that says so: what a locker that was killed half-way leaves must not
 * be found when some of the files are gone. Errors as of {@link explainingLock}.
 */
export async function refuseLocked(root: string, folder: string, backupId: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const locked = await refusesWriting(join(folder, name))
    if (locked !== null) throw await lockError(root, backupId, locked)
  }
  if ((await recordsOf(root, backupId)) !== null) throw await lockError(root, backupId)
}

/**
 * For a `catch` behind what removes the files of a backup: `IMMUTABLE_RETENTION_ACTIVE` with `retention_expires_at` when they are locked until then,
 * `REPO_INVALID` when nothing says until when, or it is over. What is no lock is thrown on.
 */
export function explainingLock(root: string, backupId: string): (error: unknown) => Promise<never> {
  return async (error) => {
    if (!mayBeLock(error)) throw error
    throw await lockError(root, backupId, error)
  }
}

/** Whether a failed removal may have met a lock. */
export function mayBeLock(error: unknown): boolean {
  // Node takes a file that it may not remove for a folder, and then says that it is none.
  return ['EPERM', 'ENOTDIR'].includes(errnoOf(error) ?? '')
}

/** How it is refused; `null` when it is not. Any other failure will be met, and named, by the removal. */
async function refusesWriting(path: string): Promise<unknown> {
  try {
    await (await open(path, constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)).close()
    return null
  } catch (error) {
    return errnoOf(error) === 'EPERM' ? error : null
  }
}

async function lockError(root: string, backupId: string, cause?: unknown): Promise<HoldfastError> {
  const ends = (await recordsOf(root, backupId))?.flatMap((name) => endOfLockRecord(name)?.getTime() ?? []) ?? []
  const end = ends.length === 0 ? null : new Date(Math.max(...ends))
  if (end !== null && end > new Date()) {
    return new HoldfastError(
      'IMMUTABLE_RETENTION_ACTIVE',
      `Backup ${backupId} is locked until ${end.toISOString()}: nobody removes it before.`,
      { cause, details: { backup_id: backupId, retention_expires_at: end.toISOString() } },
    )
  }
  const until = end === null ? 'nothing says until when' : `its lock ended ${end.toISOString()} and is still on`
  return new HoldfastError(
    'REPO_INVALID',
    `Backup ${backupId} was not removed: something of it is marked immutable, and ${until}. Look at its files with lsattr, and at ${LOCKS_FOLDER}/${backupId}.`,
    { cause, details: { backup_id: backupId, reason: 'immutable' } },
  )
}

/** Names in the folder of its records; `null` without one. */
async function recordsOf(root: string, backupId: string): Promise<string[] | null> {
  try {
    return await readdir(join(root, LOCKS_FOLDER, backupId))
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}
