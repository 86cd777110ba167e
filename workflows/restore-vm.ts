/**
 * Restores the disks of a backup and makes a VM of them: a new one, or the original again.
 *
 * The target is checked before anything is recorded; the backup is pinned while it is read, and an original that is to be overwritten
 * is locked against backups. The disks are written beside their places, two at a time. Only when all are there, and proven, the VM is made of
 * them, which is the point of no return: before it, every failure and every cancellation removes what was written and leaves originals
 * untouched; after it, the restore completes.
 */
import { CancellationScope, setCurrentDetails, workflowInfo } from '@temporalio/workflow'
import { diskRestoreId } from '../domain/restore.ts'
import type { PlannedDisk, RestoredVm } from '../sources/source.ts'
import type { RestoreVmRequest } from '../temporal/operations.ts'
import { controlSteps, hostSteps, interactiveHostSteps, longHostSteps } from './activity-options.ts'
import type { HostPatience } from './activity-options.ts'
import { AdmissionGate } from './admission.ts'
import { cancellationBehind } from './cancellation.ts'
import { Compensations } from './compensation.ts'
import { asApplicationFailure, failureOf } from './failure.ts'
import type { FailureReport } from './failure.ts'
import { restoreDisks } from './restore-disks.ts'
import { lockVmChain } from './vm-chain-lock.ts'

export interface RestoreVmInput extends RestoreVmRequest {
  heartbeatTimeoutMs: number
}

export async function restoreVm(input: RestoreVmInput): Promise<RestoredVm> {
  const { restoreId } = input
  const gate = new AdmissionGate<null>()
  const undo = new Compensations()
  const held = new Compensations()
  try {
    const { patience, disks } = await admit(input, held)
    gate.admit(null)
    undo.add('remove what was written', () => hostSteps(patience).discardVmRestore(restoreId))
    await writeDisks(input, patience, disks)
    return await CancellationScope.nonCancellable(() => makeVm(input, patience, undo, held))
  } catch (error) {
    const cancelled = cancellationBehind(error, 'The restore')
    const report = failureOf(cancelled ?? error)
    await endUnfinished(restoreId, cancelled ? 'cancelled' : 'failed', report, [undo, held]).finally(() => gate.refuse(report))
    throw cancelled ?? asApplicationFailure(report, error)
  } finally {
    await gate.allAnswered()
  }
}

/** Pins the backup, locks an original, finds out where the disks go, and only then records the restore. */
async function admit(input: RestoreVmInput, held: Compensations): Promise<{ patience: HostPatience; disks: PlannedDisk[] }> {
  const { backupId, target, heartbeatTimeoutMs } = input
  const { workflowId } = workflowInfo()
  const control = controlSteps()
  held.add('remove the pin', () => control.unpinBackup({ backupId, ownerWorkflowId: workflowId }))
  const { hostId } = await control.pinBackup({ backupId, ownerWorkflowId: workflowId, reason: 'restore' })
  if (target.type === 'original') {
    // Not cancellable, so that a lock that was just taken is known to be ours to release.
    const release = await CancellationScope.nonCancellable(() => lockVmChain({ vmContextId: target.vmContextId, backupId }))
    held.add('let backups of the VM begin again', release)
  }
  const patience = { hostId, heartbeatTimeoutMs }
  const disks = await interactiveHostSteps(patience).planVmRestore(input)
  await control.recordVmRestore({ ...input, workflowId, disks })
  return { patience, disks }
}

async function writeDisks({ restoreId }: RestoreVmInput, patience: HostPatience, disks: PlannedDisk[]): Promise<void> {
  const control = controlSteps()
  const host = longHostSteps(patience)
  setCurrentDetails(['Writing', '', ...disks.map(({ index, writePath }) => `- disk ${index}: \`${writePath}\``)].join('\n'))
  await restoreDisks(disks, async ({ index }) => {
    const id = diskRestoreId(restoreId, index)
    await control.recordRestoredDiskBegin(id)
    await host.restoreDisk(id)
    await control.recordRestoreEnd({ restoreId: id, state: 'completed' })
  })
}

/** From the first replaced disk on there is no way back: what is left is tried until it works. */
async function makeVm(
  { restoreId, target }: RestoreVmInput,
  patience: HostPatience,
  undo: Compensations,
  held: Compensations,
): Promise<RestoredVm> {
  const control = controlSteps()
  const host = hostSteps(patience)
  setCurrentDetails('All disks are written; making the VM of them')
  // First: whatever happens from here on, the next backup of this VM is a full.
  if (target.type === 'original') await control.recordOverwriting(target.vmContextId)
  const made = await host.completeVmRestore(restoreId)
  undo.forget()
  if (target.type === 'libvirt' && target.start) await host.startRestoredVm(restoreId)
  // Whoever sees the restore completed may delete the backup, or back the VM up, at once.
  await held.run()
  await control.recordRestoreEnd({ restoreId, state: 'completed' })
  setCurrentDetails(`**completed**: \`${made.externalId}\``)
  return made
}

/** Leaves nothing behind, then says so in the catalog. */
async function endUnfinished(
  restoreId: string,
  state: 'failed' | 'cancelled',
  { code, message }: FailureReport,
  cleanUp: Compensations[],
): Promise<void> {
  setCurrentDetails(`**${state}**: ${message}\n\nCleaning up…`)
  for (const releases of cleanUp) await releases.run()
  await CancellationScope.nonCancellable(() => controlSteps().recordRestoreEnd({ restoreId, state, code, message }))
  setCurrentDetails(`**${state}**: ${message}`)
}
