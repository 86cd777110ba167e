/** One disk of a backup: a single step that resumes where it stopped, whatever stopped it. */
import type { DiskOutcome } from '../activities/transfers.ts'
import type { Snapshot } from '../sources/source.ts'
import { transferSteps } from './activity-options.ts'
import type { HostPatience } from './activity-options.ts'

export interface BackupDiskInput {
  vmContextId: string
  backupId: string
  repositoryId: string
  host: HostPatience
  diskIndex: number
  snapshot: Snapshot
}

/** Copies the disk into the staging folder. Nothing it leaves behind is visible until `backupVm` publishes; cancelled, it has stopped. */
export async function backupDisk(input: BackupDiskInput): Promise<DiskOutcome> {
  const { backupId, diskIndex, snapshot } = input
  return transferSteps(input.host, input.repositoryId).transferDisk({ backupId, diskIndex, snapshot })
}
