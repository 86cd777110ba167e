/** What a backup that cannot be removed has to say for itself. Locks are set and taken off by the locker; here they are only met. */
import { join } from 'node:path'
import { readdir } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'
import { LOCKS_FOLDER, endOfLockRecord } from '../domain/repository-layout.ts'
import { errnoOf } from './file-errors.ts'

/**
 * For a `catch` behind what removes the files of a backup: `IMMUTABLE_RETENTION_ACTIVE` with `retention_expires_at` when they are locked until then,
 * `REPO_INVALID` when nothing says until when. What is no lock is thrown on.
 */
export function explainingLock(root: string, backupId: string): (error: unknown) => Promise<never> {
  return async (error) => {
    if (!mayBeLock(error)) throw error
    const end = await latestRecord(root, backupId)
    if (end !== null && end > new Date()) {
      throw new HoldfastError(
        'IMMUTABLE_RETENTION_ACTIVE',
        `Backup ${backupId} is locked until ${end.toISOString()}: nobody removes it before.`,
        { cause: error, details: { backup_id: backupId, retention_expires_at: end.toISOString() } },
      )
    }
    const until = end === null ? 'nothing says until when' : `its lock ended ${end.toISOString()} and is still on`
    throw new HoldfastError(
      'REPO_INVALID',
      `The files of backup ${backupId} refuse to be removed: they are marked immutable, and ${until}. Look at them with lsattr.`,
      { cause: error, details: { backup_id: backupId, reason: 'immutable' } },
    )
  }
}

/** Whether a failed removal may have met a lock. */
export function mayBeLock(error: unknown): boolean {
  // Node takes a file that it may not remove for a folder, and then says that it is none.
  return ['EPERM', 'ENOTDIR'].includes(errnoOf(error) ?? '')
}

async function latestRecord(root: string, backupId: string): Promise<Date | null> {
  const names = await readdir(join(root, LOCKS_FOLDER, backupId)).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  })
  const ends = names.flatMap((name) => endOfLockRecord(name)?.getTime() ?? [])
  return ends.length === 0 ? null : new Date(Math.max(...ends))
}
