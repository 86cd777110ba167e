/** Catalog steps that keep a backup from being deleted while it is read, and from being read while it is deleted. */
import type { Catalog } from '../db/client.ts'
import { loadBackupWork } from '../db/queries/backup-records.ts'
import { recordDeletedBackup } from '../db/queries/deletion-records.ts'
import { markForDeletion, pinForReading, removePin } from '../db/queries/pins.ts'
import type { Pin } from '../db/queries/pins.ts'
import { guarded } from './failure.ts'

/** What a reader needs to know of a pinned backup. */
export interface PinnedBackup {
  hostId: string
  vmName: string
  disks: { index: number; label: string }[]
}

export interface PinActivities {
  /** `BACKUP_NOT_FOUND` (also while it is being deleted), `BACKUP_NOT_COMPLETED`. Idempotent. */
  pinBackup(input: Pin & { reason: string }): Promise<PinnedBackup>

  /** Also takes back a deletion mark. Idempotent. */
  unpinBackup(pin: Pin): Promise<void>

  /** Checks retention, dependents and pins and marks the backup in one transaction. `BACKUP_NOT_FOUND`, `IMMUTABLE_RETENTION_ACTIVE`, `BACKUP_HAS_DEPENDENTS`, `BACKUP_PINNED`, `VM_BUSY`. Idempotent. */
  markForDeletion(mark: Pin): Promise<{ hostId: string }>

  /** Forgets a backup whose files are gone, with its pins. Idempotent. */
  recordDeletion(backupId: string): Promise<void>
}

export function createPinActivities({ catalog }: { catalog: Catalog }): PinActivities {
  return guarded({
    async pinBackup({ reason, ...pin }: Pin & { reason: string }): Promise<PinnedBackup> {
      await pinForReading(catalog, pin, reason)
      const { job, disks, repository } = await loadBackupWork(catalog, pin.backupId)
      return {
        hostId: repository.host_id,
        vmName: job.vm_name,
        disks: disks.map((disk) => ({ index: disk.disk_index, label: disk.label })),
      }
    },

    async unpinBackup(pin: Pin): Promise<void> {
      await removePin(catalog, pin)
    },

    async markForDeletion(mark: Pin): Promise<{ hostId: string }> {
      await markForDeletion(catalog, mark)
      const { repository } = await loadBackupWork(catalog, mark.backupId)
      return { hostId: repository.host_id }
    },

    async recordDeletion(backupId: string): Promise<void> {
      await recordDeletedBackup(catalog, backupId)
    },
  })
}
