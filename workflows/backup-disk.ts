/** One disk of a backup: a single step that resumes where it stopped, whatever stopped it. A repository that is full or away parks it. */
import { continueAsNew, workflowInfo } from '@temporalio/workflow'
import type { DiskOutcome } from '../activities/transfers.ts'
import type { Snapshot } from '../sources/source.ts'
import { transferSteps } from './activity-options.ts'
import type { HostPatience } from './activity-options.ts'
import type { ParkingLooks } from '../domain/parking.ts'
import { outlastingRepository } from './parking.ts'

export interface BackupDiskInput {
  vmContextId: string
  backupId: string
  repositoryId: string
  host: HostPatience
  diskIndex: number
  snapshot: Snapshot
  parkingLooks?: ParkingLooks | undefined
}

/** Copies the disk into the staging folder. Nothing it leaves behind is visible until `backupVm` publishes; cancelled, it has stopped. */
export async function backupDisk(input: BackupDiskInput): Promise<DiskOutcome> {
  const { backupId, diskIndex, snapshot, host, parkingLooks: looks } = input
  const parkable = { backupId, diskIndex, host, looks, reads: { snapshot, diskIndex } }
  return outlastingRepository(parkable, () => {
    // Parked and gone on thousands of times: the history ends, the work does not.
    if (workflowInfo().continueAsNewSuggested) return continueAsNew<typeof backupDisk>(input)
    return transferSteps(host, input.repositoryId).transferDisk({ backupId, diskIndex, snapshot })
  })
}
