/**
 * Proves that a backup can be read: every block of every disk, through the whole chain, against the hashes of birth.
 *
 * The backup is pinned while it is read. Damage is a result, not a failure of this workflow: it is written into the catalog, and a
 * backup that failed is never a parent again. Only what kept us from reading (a share that is away, a mover that is gone) is a failure.
 */
import { CancellationScope, setCurrentDetails, upsertSearchAttributes, workflowInfo } from '@temporalio/workflow'
import type { DiskVerification, VerificationOutcome } from '../activities/verification.ts'
import { controlSteps, longHostSteps } from './activity-options.ts'
import { Compensations } from './compensation.ts'
import { asApplicationFailure, failureOf, isCancelled } from './failure.ts'
import { hostKey } from './search-attributes.ts'

export interface VerifyBackupInput {
  backupId: string
  heartbeatTimeoutMs: number
}

export async function verifyBackup({ backupId, heartbeatTimeoutMs }: VerifyBackupInput): Promise<VerificationOutcome> {
  const control = controlSteps()
  const undo = new Compensations()
  const pin = { backupId, ownerWorkflowId: workflowInfo().workflowId }
  try {
    undo.add('remove the pin', () => control.unpinBackup(pin))
    const backup = await control.pinBackup({ ...pin, reason: 'verification' })
    upsertSearchAttributes([{ key: hostKey, value: backup.hostId }])
    const host = longHostSteps({ hostId: backup.hostId, heartbeatTimeoutMs })
    const disks: DiskVerification[] = []
    for (const disk of backup.disks) {
      setCurrentDetails(`Reading disk ${disk.index} \`${disk.label}\` of ${backup.vmName}`)
      disks.push(await host.verifyDisk({ backupId, diskIndex: disk.index }))
    }
    // Whoever sees the result may delete the backup at once, so the pin goes first.
    await undo.run()
    const outcome = await CancellationScope.nonCancellable(() => control.recordVerification({ backupId, disks }))
    setCurrentDetails(`**${outcome.status}**: ${outcome.message}`)
    return outcome
  } catch (error) {
    await undo.run()
    const report = failureOf(error)
    const message = `Could not be verified (${report.code}): ${report.message}`
    await CancellationScope.nonCancellable(() => control.recordVerificationTrouble({ backupId, message }))
    throw isCancelled(error) ? error : asApplicationFailure(report, error)
  }
}
