/** `lock`: at any time, for longer only. First the record, then the files, then the folder: what is locked always has a record. */
import { HoldfastError } from '../domain/errors.ts'
import type { LockAnswer, LockPlace, LockRequest } from '../domain/lock-protocol.ts'
import { immutableAmong } from '../tools/chattr.ts'
import { ITSELF, missingFlags, setFlags } from './flags.ts'
import type { Folder } from './folders.ts'
import { addRecord, recordedAt, recordedEnd } from './records.ts'
import { filesOf, inBackup, inRepository } from './repository.ts'
import type { LockedRepository } from './repository.ts'

/** A backup that cannot be locked does not keep the others from it. */
export function lock(request: LockRequest): Promise<LockAnswer> {
  return inRepository(request, async (repository) => {
    const answer: LockAnswer = { locked: [], failed: [] }
    for (const { until, ...place } of request.backups) {
      const { backupId } = place
      try {
        const end = await inBackup(repository.root, place, (backup) => lockBackup(repository, place, backup, new Date(until)))
        answer.locked.push({ backupId, until: end.toISOString() })
      } catch (error) {
        answer.failed.push({ backupId, reason: error instanceof Error ? error.message : String(error) })
      }
    }
    return answer
  })
}

async function lockBackup(repository: LockedRepository, place: LockPlace, backup: Folder | null, until: Date): Promise<Date> {
  if (backup === null) throw new HoldfastError('BACKUP_NOT_FOUND', `The folder of ${place.backupId} is gone.`)
  const files = await filesOf(backup)
  const recorded = await recordedEnd(repository, place, backup)
  if (recorded === null && (await immutableAmong(backup.handlePath, [ITSELF])).has(ITSELF)) throw lockedWithoutRecord(place)
  const end = recorded !== null && recorded > until ? recorded : until
  if (end <= new Date()) throw new HoldfastError('INVALID_REQUEST', `A lock of ${place.backupId} would have ended already.`)
  if (recorded === null || end > recorded) await addRecord(repository, place, backup, end)
  await setFlags(backup, files, await recordedAt(repository, place, backup))
  const missing = await missingFlags(backup, files)
  if (missing.length === 0) return end
  throw new HoldfastError('LOCK_FAILED', `The lock of ${place.backupId} was set and does not hold: ${missing.join('; ')}.`)
}

/** Nobody knows for how long it was locked, so nobody may say for how long it shall be: a short lock would open a long one. */
export function lockedWithoutRecord({ backupId }: LockPlace): HoldfastError {
  return new HoldfastError(
    'LOCK_FAILED',
    `Backup ${backupId} is locked, but the record that says until when is not there or not to be believed: find out who moved it, and put it back.`,
    { details: { backup_id: backupId, reason: 'record_missing' }, retryable: false },
  )
}
