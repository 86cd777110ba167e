/** Progress of running transfers and restores, many rows in one statement. */
import { sql } from 'kysely'
import type { Catalog } from '../client.ts'

export interface DiskProgress {
  backupId: string
  diskIndex: number
  processedBytes: number
  writtenBytes: number
  ratePerSecond: number
  /** Where this attempt resumed, in bytes of the disk. */
  resumedAtBytes: number
  attempt: number
}

export interface RestoreProgress {
  restoreId: string
  processedBytes: number
  totalBytes: number
  ratePerSecond: number
  resumedAtBytes: number
}

/**
 * Writes the progress of many disks, and the sums of their backups. Only rows that are still at work: a late report never
 * brings an ended backup back to life.
 */
export async function recordDiskProgress(catalog: Catalog, disks: readonly DiskProgress[]): Promise<void> {
  if (disks.length === 0) return
  const reports = sql.join(
    disks.map(
      (disk) => sql`select ${disk.backupId} as backup_id, ${disk.diskIndex} as disk_index, ${disk.processedBytes} as processed,
        ${disk.writtenBytes} as written, ${disk.ratePerSecond} as rate, ${disk.resumedAtBytes} as resumed, ${disk.attempt} as attempt`,
    ),
    sql` union all `,
  )
  await sql`
    update backup_disks join (${reports}) report
      on backup_disks.backup_job_id = report.backup_id and backup_disks.disk_index = report.disk_index
    set backup_disks.status = 'running', backup_disks.processed_bytes = report.processed, backup_disks.bytes_transferred = report.written,
      backup_disks.rate_bytes_per_second = report.rate, backup_disks.resumed_at_bytes = report.resumed,
      backup_disks.attempt = report.attempt, backup_disks.progress_at = utc_timestamp(3)
    where backup_disks.status in ('pending', 'running')`.execute(catalog)
  await sumBackups(catalog, [...new Set(disks.map((disk) => disk.backupId))])
}

async function sumBackups(catalog: Catalog, backupIds: string[]): Promise<void> {
  await sql`
    update backup_jobs join (
      select backup_job_id, sum(processed_bytes) as processed, sum(bytes_transferred) as written
      from backup_disks where backup_job_id in (${sql.join(backupIds)}) group by backup_job_id
    ) disks on disks.backup_job_id = backup_jobs.id
    set backup_jobs.processed_bytes = disks.processed, backup_jobs.bytes_transferred = disks.written
    where backup_jobs.status = 'running'`.execute(catalog)
}

/** Restores are few and each has a row of its own. The disk of a VM restore says how far it is; the sum is made by who looks. */
export async function recordRestoreProgress(catalog: Catalog, progress: RestoreProgress): Promise<void> {
  await catalog
    .updateTable('restore_jobs')
    .set({
      processed_bytes: progress.processedBytes,
      total_bytes: progress.totalBytes,
      rate_bytes_per_second: progress.ratePerSecond,
      resumed_at_bytes: progress.resumedAtBytes,
    })
    .where('id', '=', progress.restoreId)
    .where('status', '=', 'running')
    .execute()
}
