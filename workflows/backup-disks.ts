/** All disks of a snapshot side by side, all or nothing. */
import { CancellationScope, ParentClosePolicy, executeChild, workflowInfo } from '@temporalio/workflow'
import type { BackupPlan } from '../activities/admission.ts'
import type { DiskOutcome } from '../activities/transfers.ts'
import { backupDisk } from './backup-disk.ts'
import type { BackupDiskInput } from './backup-disk.ts'
import { searchAttributesFor } from './search-attributes.ts'

/**
 * One child per disk. A disk that fails stops its siblings; whatever happens, this returns or throws only when no transfer runs
 * any more, so the caller may end the snapshot.
 */
export async function backUpDisks(plan: BackupPlan, input: Omit<BackupDiskInput, 'diskIndex'>): Promise<DiskOutcome[]> {
  const scope = new CancellationScope()
  const children = plan.disks.map((disk) => scope.run(() => startDisk(disk, input)))
  try {
    return await Promise.all(children)
  } catch (error) {
    scope.cancel()
    throw error
  } finally {
    await CancellationScope.nonCancellable(() => Promise.allSettled(children))
  }
}

function startDisk(disk: BackupPlan['disks'][number], input: Omit<BackupDiskInput, 'diskIndex'>): Promise<DiskOutcome> {
  const { vmContextId, backupId, repositoryId, host } = input
  return executeChild(backupDisk, {
    workflowId: `${workflowInfo().workflowId}/${backupId}/disk-${disk.index}`,
    args: [{ ...input, diskIndex: disk.index }],
    // When the parent is terminated the disk still stops by itself, with its servers closed.
    parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
    typedSearchAttributes: searchAttributesFor({ kind: 'backup-disk', vmContextId, backupId, repositoryId, hostId: host.hostId }),
    staticSummary: `Disk ${disk.index} (${disk.label}) of ${backupId}`,
  })
}
