/**
 * Backups that wait for room or for their repository. Each disk waits by itself; the backup is parked while any of them is, or while the
 * backup itself waits before or after its disks. Its status stays `running`.
 */
import { resolveAlert, openAlert } from './alerts.ts'
import type { ParkedReason } from '../../domain/backup.ts'
import type { Catalog } from '../client.ts'

export interface ParkedWork {
  backupId: string
  /** `null`: the backup itself waits, not one of its disks. */
  diskIndex: number | null
}

export interface WhyParked {
  reason: ParkedReason
  /** For people: what happened, and what to do. */
  message: string
}

/** A backup that goes on and is parked again soon has one alert, not one for each time. */
const SAME_PARKING_MS = 30 * 60_000

const notParked = { parked_reason: null, parked_at: null, parked_message: null }

/** Notes that this work waits, and opens the alert. A backup that has ended is not parked any more. Idempotent. */
export async function parkBackup(catalog: Catalog, parked: ParkedWork & WhyParked): Promise<void> {
  const { backupId, diskIndex, reason, message } = parked
  const now = new Date()
  await catalog.transaction().execute(async (transaction) => {
    const job = await unfinishedJob(transaction, backupId)
    if (!job) return
    await transaction
      .updateTable('backup_jobs')
      .set({ parked_reason: reason, parked_at: job.parked_at ?? now, parked_message: message })
      .where('id', '=', backupId)
      .execute()
    if (diskIndex !== null) {
      await transaction
        .updateTable('backup_disks')
        .set((row) => ({ parked_at: row.fn.coalesce('parked_at', row.val(now)), rate_bytes_per_second: 0 }))
        .where('backup_job_id', '=', backupId)
        .where('disk_index', '=', diskIndex)
        .execute()
    }
    await openAlert(transaction, {
      kind: 'backup_parked',
      subject: backupId,
      severity: 'warning',
      message: `Backup ${backupId} of "${job.vm_name}" waits: ${message}`,
      repositoryId: job.repository_id,
      backupId,
      details: { reason, vm_name: job.vm_name },
      reopenWithinMs: SAME_PARKING_MS,
    })
  })
}

/** Tells why it waits now, where that is something else than before. Nothing happens to a backup that is not parked. */
export async function noteWhyParked(catalog: Catalog, backupId: string, { reason, message }: WhyParked): Promise<void> {
  await catalog
    .updateTable('backup_jobs')
    .set({ parked_reason: reason, parked_message: message })
    .where('id', '=', backupId)
    .where('parked_at', 'is not', null)
    .execute()
}

/** This work goes on; with the last of the backup's the alert is resolved. Idempotent. */
export async function unparkBackup(catalog: Catalog, { backupId, diskIndex }: ParkedWork): Promise<void> {
  await catalog.transaction().execute(async (transaction) => {
    await unfinishedJob(transaction, backupId)
    if (diskIndex !== null) {
      await transaction
        .updateTable('backup_disks')
        .set({ parked_at: null })
        .where('backup_job_id', '=', backupId)
        .where('disk_index', '=', diskIndex)
        .execute()
    }
    const waiting = await transaction
      .selectFrom('backup_disks')
      .select('disk_index')
      .where('backup_job_id', '=', backupId)
      .where('parked_at', 'is not', null)
      .executeTakeFirst()
    if (!waiting) await unpark(transaction, backupId)
  })
}

/** The backup ends, or begins again: nothing of it waits any more. Inside a transaction. Idempotent. */
export async function unparkForGood(transaction: Catalog, backupId: string): Promise<void> {
  await transaction.updateTable('backup_disks').set({ parked_at: null }).where('backup_job_id', '=', backupId).execute()
  await unpark(transaction, backupId)
}

async function unpark(transaction: Catalog, backupId: string): Promise<void> {
  await transaction.updateTable('backup_jobs').set(notParked).where('id', '=', backupId).execute()
  await resolveAlert(transaction, 'backup_parked', backupId)
}

/** Locked, so that disks that park and go on at the same time take turns. */
function unfinishedJob(transaction: Catalog, backupId: string) {
  return transaction
    .selectFrom('backup_jobs')
    .select(['vm_name', 'repository_id', 'parked_at'])
    .where('id', '=', backupId)
    .where('status', 'in', ['pending', 'running'])
    .forUpdate()
    .executeTakeFirst()
}
