/** Which backup a request means, and what may be done with it in its state. */
import { findBackup, findBackupDetail } from '../db/queries/backup-detail.ts'
import type { BackupDetail, BackupDisk } from '../db/queries/backup-detail.ts'
import type { BackupJob } from '../db/queries/backup-list.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { ApiDependencies } from './dependencies.ts'

type Reads = Pick<ApiDependencies, 'catalog'>

/** `BACKUP_NOT_FOUND`. */
export async function backupOf({ catalog }: Reads, backupId: string): Promise<BackupJob> {
  return (await findBackup(catalog, backupId)) ?? refuseUnknown(backupId)
}

/** `BACKUP_NOT_FOUND`. */
export async function backupDetailOf({ catalog }: Reads, backupId: string): Promise<BackupDetail> {
  return (await findBackupDetail(catalog, backupId)) ?? refuseUnknown(backupId)
}

/** `BACKUP_NOT_COMPLETED` for one that is running, failed or cancelled. */
export function requireCompleted(backup: BackupJob, purpose: string): void {
  if (backup.status === 'completed') return
  throw new HoldfastError('BACKUP_NOT_COMPLETED', `This backup is ${backup.status}: only a completed one can be ${purpose}.`, {
    details: { backup_id: backup.id, status: backup.status },
  })
}

/** `DISK_NOT_FOUND` for the first index that is none of the backup's. */
export function requireDisks(backupId: string, disks: readonly BackupDisk[], indexes: readonly number[]): void {
  const missing = indexes.find((index) => !disks.some((disk) => disk.disk_index === index))
  if (missing === undefined) return
  throw new HoldfastError('DISK_NOT_FOUND', `This backup has no disk ${missing}.`, {
    details: { backup_id: backupId, disk_index: missing, disk_indexes: disks.map((disk) => disk.disk_index) },
  })
}

export function isActive(work: { status: string }): boolean {
  return work.status === 'pending' || work.status === 'running'
}

function refuseUnknown(backupId: string): never {
  throw new HoldfastError('BACKUP_NOT_FOUND', 'There is no such backup: GET /backups lists them.', {
    details: { backup_id: backupId },
  })
}
