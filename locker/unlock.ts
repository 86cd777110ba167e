/** `unlock`: only after the recorded end. First the flags, then the records: a crash in between leaves a lock that has ended. */
import { HoldfastError } from '../domain/errors.ts'
import type { LockPlace, UnlockAnswer, UnlockRequest } from '../domain/lock-protocol.ts'
import { immutableAmong } from '../tools/chattr.ts'
import { ITSELF, clearFlags } from './flags.ts'
import type { Folder } from './folders.ts'
import { lockedWithoutRecord } from './lock.ts'
import { recordedEnds, removeRecords } from './records.ts'
import { filesOf, inBackup, inRepository } from './repository.ts'
import type { LockedRepository } from './repository.ts'

/** `IMMUTABLE_RETENTION_ACTIVE` with `retention_expires_at`; `LOCK_FAILED` (lasting) when it is locked without a record to be believed. */
export function unlock(request: UnlockRequest): Promise<UnlockAnswer> {
  return inRepository(request, (repository) =>
    inBackup(repository.root, request, (backup) => unlockBackup(repository, request, backup)),
  )
}

async function unlockBackup(repository: LockedRepository, place: LockPlace, backup: Folder | null): Promise<UnlockAnswer> {
  const now = new Date()
  const ends = await recordedEnds(repository, place, backup)
  if (ends !== null && ends.believed > now) throw retained(place, ends.believed)
  if (backup === null) {
    await removeRecords(repository, place, backup, now)
    return { unlocked: false }
  }
  const files = await filesOf(backup)
  const set = await immutableAmong(backup.handlePath, [...files, ITSELF])
  if (set.size > 0) {
    if (ends === null) throw lockedWithoutRecord(place)
    if (ends.named > now) throw retained(place, ends.named)
    await clearFlags(backup, files)
  }
  await removeRecords(repository, place, backup, now)
  return { unlocked: set.size > 0 }
}

function retained({ backupId }: LockPlace, end: Date): HoldfastError {
  return new HoldfastError('IMMUTABLE_RETENTION_ACTIVE', `Backup ${backupId} is locked until ${end.toISOString()}.`, {
    details: { backup_id: backupId, retention_expires_at: end.toISOString() },
  })
}
