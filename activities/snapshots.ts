/** Freezing a VM's disks for a backup, and letting go. */
import { cancellationSignal } from '@temporalio/activity'
import { HoldfastError } from '../domain/errors.ts'
import { loadBackupWork } from '../db/queries/backup-records.ts'
import type { BackupWork } from '../db/queries/backup-records.ts'
import { changeIdsInUseOf } from '../db/queries/change-ids.ts'
import { disksOfBackup } from '../db/queries/backup-detail.ts'
import type { Snapshot } from '../sources/source.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'
import { patientWithSource } from './source-patience.ts'

export interface SnapshotActivities {
  /**
   * Freezes all disks at one instant. `SOURCE_CHANGED` when they are not the disks that were admitted a moment ago.
   * Idempotent: the same snapshot, while it exists.
   */
  beginSnapshot(backupId: string): Promise<Snapshot>

  /** Idempotent; also for a snapshot that never began. A VM that is no longer registered has nothing to end. */
  endSnapshot(backupId: string, outcome: 'published' | 'abandoned'): Promise<void>
}

export function createSnapshotActivities({ catalog, sourceOf }: HostDependencies): SnapshotActivities {
  return guarded({
    async beginSnapshot(backupId: string): Promise<Snapshot> {
      const work = await loadBackupWork(catalog, backupId)
      const source = await sourceOf(work.vm)
      const parentChangeIds = await changeIdsOf(work)
      const request = { backupId, config: work.vm.config, parentChangeIds }
      const snapshot = await patientWithSource(() => source.beginSnapshot(request, { signal: cancellationSignal() }))
      checkDisks(work, snapshot)
      return snapshot
    },

    async endSnapshot(backupId: string, outcome: 'published' | 'abandoned'): Promise<void> {
      const { vm } = await loadBackupWork(catalog, backupId)
      const changeIdsInUse = await changeIdsInUseOf(catalog, vm.context_id)
      const source = await sourceOf(vm)
      const end = { outcome, changeIdsInUse }
      await patientWithSource(() => source.endSnapshot(vm.config, backupId, end, { signal: cancellationSignal() }))
    },
  })

  /** Of the disks that continue their chain; a disk that is a full asks for no changes. */
  async function changeIdsOf({ job, disks }: BackupWork): Promise<Record<string, string>> {
    if (job.parent_backup_id === null) return {}
    const incremental = new Set(disks.filter((disk) => disk.backup_type === 'incremental').map((disk) => disk.disk_key))
    const parents = await disksOfBackup(catalog, job.parent_backup_id)
    return Object.fromEntries(
      parents.flatMap(({ disk_key: key, disk_change_id: changeId }) =>
        changeId === null || !incremental.has(key) ? [] : [[key, changeId]],
      ),
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
