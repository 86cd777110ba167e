/** Freezing a VM's disks for a backup, and letting go. */
import { cancellationSignal } from '@temporalio/activity'
import { HoldfastError } from '../domain/errors.ts'
import { loadBackupWork } from '../db/queries/backup-records.ts'
import type { BackupWork } from '../db/queries/backup-records.ts'
import { disksOfBackup } from '../db/queries/backup-detail.ts'
import type { Snapshot } from '../sources/source.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'

export interface SnapshotActivities {
  /**
   * Freezes all disks at one instant. `SOURCE_CHANGED` when they are not the disks that were admitted a moment ago.
   * Idempotent: the same snapshot, while it exists.
   */
  beginSnapshot(backupId: string): Promise<Snapshot>

  /** Idempotent; also for a snapshot that never began. A VM that is no longer registered has nothing to end. */
  endSnapshot(backupId: string, outcome: 'published' | 'abandoned'): Promise<void>
}

export function createSnapshotActivities({ catalog, createSource }: HostDependencies): SnapshotActivities {
  return guarded({
    async beginSnapshot(backupId: string): Promise<Snapshot> {
      const work = await loadBackupWork(catalog, backupId)
      const source = createSource(work.vm.source_type)
      const parentChangeIds = await changeIdsOf(work.job.parent_backup_id)
      const snapshot = await source.beginSnapshot(
        { backupId, config: work.vm.config, parentChangeIds },
        { signal: cancellationSignal() },
      )
      checkDisks(work, snapshot)
      return snapshot
    },

    async endSnapshot(backupId: string, outcome: 'published' | 'abandoned'): Promise<void> {
      const { vm } = await loadBackupWork(catalog, backupId)
      await createSource(vm.source_type).endSnapshot(vm.config, backupId, outcome, { signal: cancellationSignal() })
    },
  })

  async function changeIdsOf(parentBackupId: string | null): Promise<Record<string, string>> {
    if (parentBackupId === null) return {}
    const disks = await disksOfBackup(catalog, parentBackupId)
    return Object.fromEntries(
      disks.flatMap((disk) => (disk.disk_change_id === null ? [] : [[disk.disk_key, disk.disk_change_id]])),
    )
  }
}

function checkDisks({ job, disks: admitted }: BackupWork, snapshot: Snapshot): void {
  const same =
    snapshot.disks.length === admitted.length &&
    snapshot.disks.every((disk) =>
      admitted.some((row) => row.disk_index === disk.index && row.disk_key === disk.key && row.size_bytes === disk.sizeBytes),
    )
  if (same) return
  throw new HoldfastError(
    'SOURCE_CHANGED',
    `The disks of "${job.vm_name}" changed while the backup began: it must start again.`,
    {
      details: { backup_id: job.id },
    },
  )
}
