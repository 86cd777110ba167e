/**
 * Backs up one VM. Its workflow id is the lock on the VM's chain.
 *
 * The request is recorded and admitted: what the backup will be, and whether the repository has room. All disks are frozen at one
 * instant and copied side by side; one that fails stops the others, one whose repository is full or away waits for it. Then the backup is
 * published by one rename, which is the point of no return: before it, every failure and every cancellation leaves nothing behind; after it,
 * the backup completes.
 */
import { CancellationScope, log, setCurrentDetails, upsertSearchAttributes, workflowInfo } from '@temporalio/workflow'
import type { BackupPlan } from '../activities/admission.ts'
import type { RecordedPublication } from '../activities/publication.ts'
import type { ParkingLooks } from '../domain/parking.ts'
import type { BackupAdmission, StartBackupRequest } from '../temporal/operations.ts'
import { controlSteps, hostSteps, soonHostSteps } from './activity-options.ts'
import type { HostPatience } from './activity-options.ts'
import { AdmissionGate } from './admission.ts'
import { backUpDisks } from './backup-disks.ts'
import { describeBackup } from './backup-story.ts'
import { cancellationBehind } from './cancellation.ts'
import { Compensations } from './compensation.ts'
import { asApplicationFailure, failureOf } from './failure.ts'
import type { FailureReport } from './failure.ts'
import { outlastingRepository } from './parking.ts'
import type { Parkable } from './parking.ts'
import { hostKey, stateKey } from './search-attributes.ts'

/** How often the snapshot is taken again because the source changed under it. */
const SNAPSHOT_RESTARTS_MAX = 2

export interface BackupVmInput extends StartBackupRequest {
  heartbeatTimeoutMs: number
  /** Default: 5 seconds, then up to a minute. */
  parkingLooks?: ParkingLooks
}

/** What the Web UI shows as the result. */
export interface BackupVmResult {
  backupId: string
  backupType: BackupAdmission['backupType']
  disks: number
}

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
  const left = await undo.run()
  const { code } = report
  const message = left.length === 0 ? report.message : `${report.message} ${describeLeft(left)}`
  await CancellationScope.nonCancellable(() => controlSteps().recordBackupEnd({ backupId, state, code, message }))
  upsertSearchAttributes([{ key: stateKey, value: state }])
  setCurrentDetails(`**${state}**: ${message}`)
}

function describeLeft(left: string[]): string {
  return `Not done yet: ${left.join(', ')}. The reconcile pass does it as soon as that is possible.`
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
  const { vmContextId, backupId, repositoryId, parkingLooks } = input
  const host = hostSteps(patience)
  setCurrentDetails(`Waiting for the mover of host \`${patience.hostId}\` to admit the backup`)
  const plan = await host.admitBackup(backupId)
  gate.admit(plan.admission)
  upsertSearchAttributes([{ key: stateKey, value: 'running' }])
  setCurrentDetails(describeBackup(plan, 'copying'))

  const parkable = { backupId, diskIndex: null, reads: null, host: patience, looks: parkingLooks }
  undo.add('discard the staged files', () => host.discardBackup(backupId))
  await outlastingRepository(parkable, () => host.stageBackup(backupId))
  undo.add('end the snapshot', () => host.endSnapshot(backupId, 'abandoned'))
  const snapshot = await host.beginSnapshot(backupId)

  const disks = await backUpDisks(plan, { vmContextId, backupId, repositoryId, host: patience, snapshot, parkingLooks })
  setCurrentDetails(describeBackup(plan, 'publishing'))
  const publication = { backupId, snapshot, disks, publishedAt: new Date().toISOString() }
  // The wait for a repository can be cancelled, the publication itself cannot.
  await outlastingRepository(parkable, () => CancellationScope.nonCancellable(() => host.publishBackup(publication)))
  undo.forget()
  await CancellationScope.nonCancellable(() => completePublished(parkable, undo))
  setCurrentDetails(describeBackup(plan, 'published'))
  return plan
}

/** From the rename on the backup exists: what is left must happen, and no failure may undo it. */
async function completePublished(parkable: Parkable, undo: Compensations): Promise<void> {
  const { backupId, host: patience } = parkable
  const host = hostSteps(patience)
  undo.add('end the snapshot', () => host.endSnapshot(backupId, 'published'))
  // A password that has just been changed must not make a failure of what lies there.
  const record = (): Promise<RecordedPublication | undefined> => host.recordPublication(backupId)
  const recorded = await outlastingRepository(parkable, record)
  // A backup that was on its way when locks came has recorded none; the attestation locks what it leaves.
  const lock = recorded?.toBeLocked ? lockPublished(patience, backupId) : undefined
  await Promise.all([undo.run(), lock])
}

/** Neither a lock that cannot be set makes the backup fail, nor does it go unnoticed: the attestation tries again. */
async function lockPublished(patience: HostPatience, backupId: string): Promise<void> {
  try {
    await soonHostSteps(patience).lockBackup(backupId)
  } catch (error) {
    const { message } = failureOf(error)
    log.warn('The backup is published, but could not be locked', { backupId, message })
    await controlSteps().reportUnlocked({ backupId, message })
  }
}
