/** A backup's state as the Temporal Web UI shows it. */
import type { BackupPlan } from '../activities/admission.ts'

const stages = {
  copying: "Copying the disks; progress is in the catalog and in each disk's heartbeat",
  publishing: 'All disks are copied and durable; publishing',
  published: 'Published',
} as const

/** Markdown. */
export function describeBackup(plan: BackupPlan, stage: keyof typeof stages): string {
  const { backupId, backupType, fullReason, fullReasonDetail, parentBackupId } = plan.admission
  const origin = parentBackupId === null ? `${fullReason ?? ''}: ${fullReasonDetail ?? ''}` : `on \`${parentBackupId}\``
  const disks = plan.disks.map((disk) => `- disk ${disk.index} \`${disk.label}\`: ${disk.backupType}`)
  return [`**${stages[stage]}**`, '', `\`${backupId}\`, ${backupType} (${origin})`, '', ...disks].join('\n')
}
