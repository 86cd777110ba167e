/** Restores as the API shows them. */
import type { z } from '@hono/zod-openapi'
import type { RestoreJob } from '../../db/queries/restores.ts'
import type { restore } from '../schemas/restores.ts'
import { paceOf, percentages } from './progress.ts'
import { timeOrNull } from './units.ts'

export function restoreAnswer(row: RestoreJob, now: Date): z.infer<typeof restore> {
  const pace = paceOf(
    {
      status: row.status,
      processed: row.processed_bytes,
      total: row.total_bytes,
      ratePerSecond: row.rate_bytes_per_second,
      reportedAt: null,
    },
    now,
  )
  return {
    id: row.id,
    restore_id: row.id,
    backup_id: row.backup_id,
    vm_name: row.vm_name,
    disk_index: row.disk_index,
    target_path: row.target_path,
    format: row.target_format,
    status: row.status,
    total_bytes: row.total_bytes,
    processed_bytes: row.processed_bytes,
    ...percentages(row.status, row.processed_bytes, row.total_bytes),
    rate_bytes_per_second: pace.ratePerSecond,
    eta_seconds: pace.etaSeconds,
    resumed_at_bytes: row.resumed_at_bytes,
    error_code: row.error_code,
    error_message: row.error_message,
    created_at: row.created_at.toISOString(),
    started_at: timeOrNull(row.started_at),
    completed_at: timeOrNull(row.completed_at),
  }
}
