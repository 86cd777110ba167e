/**
 * Restores one disk of a backup to a new file. The target is checked before anything is recorded; the backup is pinned while it is
 * read. A restore that fails or is cancelled removes what it wrote.
 */
import { CancellationScope, setCurrentDetails, workflowInfo } from '@temporalio/workflow'
import type { RestoredDisk } from '../activities/restores.ts'
import type { RestoreDiskRequest } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps, longHostSteps } from './activity-options.ts'
import type { HostPatience } from './activity-options.ts'
import { AdmissionGate } from './admission.ts'
import { cancellationBehind } from './cancellation.ts'
import { Compensations } from './compensation.ts'
import { asApplicationFailure, failureOf } from './failure.ts'
import type { FailureReport } from './failure.ts'

export interface RestoreDiskInput extends RestoreDiskRequest {
  heartbeatTimeoutMs: number
}

export async function restoreDisk(input: RestoreDiskInput): Promise<RestoredDisk> {
  const { restoreId, backupId } = input
  const control = controlSteps()
  const gate = new AdmissionGate<null>()
  const undo = new Compensations()
  const unpin = () => control.unpinBackup({ backupId, ownerWorkflowId: workflowInfo().workflowId })
  try {
    undo.add('remove the pin', unpin)
    const patience = await admit(input)
    gate.admit(null)
    setCurrentDetails(`Writing \`${input.targetPath}\``)
    const host = longHostSteps(patience)
    undo.add('remove the unfinished target', () => host.discardRestore(restoreId))
    const restored = await host.restoreDisk(restoreId)
    // Whoever sees the restore completed may delete the backup at once, so the pin goes first.
    await CancellationScope.nonCancellable(async () => {
      await unpin()
      await control.recordRestoreEnd({ restoreId, state: 'completed' })
    })
    return restored
  } catch (error) {
    const cancelled = cancellationBehind(error, 'The restore')
    const report = failureOf(cancelled ?? error)
    await endUnfinished(restoreId, cancelled ? 'cancelled' : 'failed', report, undo).finally(() => gate.refuse(report))
    throw cancelled ?? asApplicationFailure(report, error)
  } finally {
    await gate.allAnswered()
  }
}

/** Leaves nothing behind, then says so in the catalog. */
async function endUnfinished(
  restoreId: string,
  state: 'failed' | 'cancelled',
  { code, message }: FailureReport,
  undo: Compensations,
): Promise<void> {
  await undo.run()
  await CancellationScope.nonCancellable(() => controlSteps().recordRestoreEnd({ restoreId, state, code, message }))
  setCurrentDetails(`**${state}**: ${message}`)
}

/** Pins the backup, checks the target where it will be written, and only then records the restore. */
async function admit(input: RestoreDiskInput): Promise<HostPatience> {
  const { workflowId } = workflowInfo()
  const control = controlSteps()
  const { hostId } = await control.pinBackup({ backupId: input.backupId, ownerWorkflowId: workflowId, reason: 'restore' })
  const patience = { hostId, heartbeatTimeoutMs: input.heartbeatTimeoutMs }
  await interactiveHostSteps(patience).checkRestoreTarget(input)
  await control.recordRestore({ ...input, workflowId })
  return patience
}
