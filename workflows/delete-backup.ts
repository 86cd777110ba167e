/**
 * Deletes a backup that nothing needs. It shares its workflow id with `backupVm`, so a chain never grows while it shrinks.
 * Dependents and pins are checked, and the backup marked, in one transaction; from then on no reader can take it.
 */
import { CancellationScope, setCurrentDetails, workflowInfo } from '@temporalio/workflow'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { Compensations } from './compensation.ts'
import { asApplicationFailure, failureOf, isCancelled } from './failure.ts'

export interface DeleteBackupInput {
  backupId: string
  heartbeatTimeoutMs: number
}

export async function deleteBackup({ backupId, heartbeatTimeoutMs }: DeleteBackupInput): Promise<void> {
  const control = controlSteps()
  const undo = new Compensations()
  const mark = { backupId, ownerWorkflowId: workflowInfo().workflowId }
  try {
    undo.add('take back the deletion mark', () => control.unpinBackup(mark))
    const { hostId } = await control.markForDeletion(mark)
    setCurrentDetails(`Removing the files of \`${backupId}\``)
    await CancellationScope.nonCancellable(async () => {
      await interactiveHostSteps({ hostId, heartbeatTimeoutMs }).deleteBackupFiles(backupId)
      await control.recordDeletion(backupId)
      undo.forget()
    })
  } catch (error) {
    await undo.run()
    throw isCancelled(error) ? error : asApplicationFailure(failureOf(error), error)
  }
}
