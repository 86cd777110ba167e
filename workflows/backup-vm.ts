/**
 * Backs up one VM. Its workflow id is the lock on the VM's chain.
 *
 * The request is recorded and admitted: what the backup will be, and whether the repository has room. All disks are frozen at one
 * instant and copied side by side; one that fails stops the others. Then the backup is published by one rename, which is the point
 * of no return: before it, every failure and every cancellation leaves nothing behind; after it, the backup completes.
 */
import { CancellationScope, log, setCurrentDetails, upsertSearchAttributes, workflowInfo } from '@temporalio/workflow'
import type { BackupPlan } from '../activities/admission.ts'
import type { DiskOutcome } from '../activities/transfers.ts'
import type { BackupAdmission, StartBackupRequest } from '../temporal/operations.ts'
import { controlSteps, hostSteps } from './activity-options.ts'
import type { HostPatience } from './activity-options.ts'
import { AdmissionGate } from './admission.ts'
import { backUpDisks } from './backup-disks.ts'
import { describeBackup } from './backup-story.ts'
import { cancellationBehind } from './cancellation.ts'
import { Compensations } from './compensation.ts'
import { asApplicationFailure, failureOf } from './failure.ts'
import type { FailureReport } from './failure.ts'
import { hostKey, stateKey } from './search-attributes.ts'

/** How often the snapshot is taken again because the source changed under it. */
const SNAPSHOT_RESTARTS_MAX = 2

export interface BackupVmInput extends StartBackupRequest {
  heartbeatTimeoutMs: number
}

/** What the Web UI shows as the result. */
export interface BackupVmResult {
  backupId: string
  backupType: BackupAdmission['backupType']
  disks: number
}

type Host = ReturnType<typeof hostSteps>

export async function backupVm(input: BackupVmInput): Promise<BackupVmResult> {
  const { backupId } = input
  const control = controlSteps()
  const gate = new AdmissionGate<BackupAdmission>()
  const undo = new Compensations()
  try {
    const { hostId } = await control.recordBackup({ ...input, workflowId: workflowInfo().workflowId })
    upsertSearchAttributes([{ key: hostKey, value: hostId }])
    const plan = await backUpOnSteadySource(input, { hostId, heartbeatTimeoutMs: input.heartbeatTimeoutMs }, gate, undo)
    upsertSearchAttributes([{ key: stateKey, value: 'completed' }])
    return { backupId, backupType: plan.admission.backupType, disks: plan.disks.length }
  } catch (error) {
    const cancelled = cancellationBehind(error, 'The backup')
    const report = failureOf(cancelled ?? error)
    await endUnpublished(input, cancelled ? 'cancelled' : 'failed', report, undo).finally(() => gate.refuse(report))
    throw cancelled ?? asApplicationFailure(report, error)
  } finally {
    await gate.allAnswered()
  }
}

/** Leaves nothing behind, then says so in the catalog: a row that reads failed or cancelled has been cleaned up after. */
async function endUnpublished(
  { backupId }: BackupVmInput,
  state: 'failed' | 'cancelled',
  report: FailureReport,
  undo: Compensations,
): Promise<void> {
  setCurrentDetails(`**${state}**: ${report.message}\n\nCleaning up…`)
  await undo.run()
  const { code, message } = report
  await CancellationScope.nonCancellable(() => controlSteps().recordBackupEnd({ backupId, state, code, message }))
  upsertSearchAttributes([{ key: stateKey, value: state }])
  setCurrentDetails(`**${state}**: ${message}`)
}

/** A source that changes while it is read gives no consistent backup: everything copied is dropped and the snapshot taken again. */
async function backUpOnSteadySource(
  input: BackupVmInput,
  patience: HostPatience,
  gate: AdmissionGate<BackupAdmission>,
  undo: Compensations,
): Promise<BackupPlan> {
  for (let restarts = 0; ; restarts++) {
    try {
      return await backUpOnce(input, patience, gate, undo)
    } catch (error) {
      if (failureOf(error).code !== 'SOURCE_CHANGED' || restarts === SNAPSHOT_RESTARTS_MAX) throw error
      log.warn('The source changed during the backup; starting again with a new snapshot', { backupId: input.backupId })
      await undo.run()
    }
  }
}

async function backUpOnce(
  input: BackupVmInput,
  patience: HostPatience,
  gate: AdmissionGate<BackupAdmission>,
  undo: Compensations,
): Promise<BackupPlan> {
  const { vmContextId, backupId, repositoryId } = input
  const host = hostSteps(patience)
  setCurrentDetails(`Waiting for the mover of host \`${patience.hostId}\` to admit the backup`)
  const plan = await host.admitBackup(backupId)
  gate.admit(plan.admission)
  upsertSearchAttributes([{ key: stateKey, value: 'running' }])
  setCurrentDetails(describeBackup(plan, 'copying'))

  undo.add('discard the staged files', () => host.discardBackup(backupId))
  await host.stageBackup(backupId)
  undo.add('end the snapshot', () => host.endSnapshot(backupId, 'abandoned'))
  const snapshot = await host.beginSnapshot(backupId)

  const disks = await backUpDisks(plan, { vmContextId, backupId, repositoryId, host: patience, snapshot })
  setCurrentDetails(describeBackup(plan, 'publishing'))
  await CancellationScope.nonCancellable(() => publish(host, { backupId, snapshot, disks }, undo))
  setCurrentDetails(describeBackup(plan, 'published'))
  return plan
}

/** From the rename on the backup exists: what is left must happen, and no failure may undo it. */
async function publish(
  host: Host,
  work: { backupId: string; snapshot: Awaited<ReturnType<Host['beginSnapshot']>>; disks: DiskOutcome[] },
  undo: Compensations,
): Promise<void> {
  const { backupId } = work
  await host.publishBackup({ ...work, publishedAt: new Date().toISOString() })
  undo.forget()
  undo.add('end the snapshot', () => host.endSnapshot(backupId, 'published'))
  await host.recordPublication(backupId)
  await undo.run()
}
