/** Restores as the API shows them. */
import type { z } from '@hono/zod-openapi'
import type { RestoreJob } from '../../db/queries/restores.ts'
import type { diskRestore, vmRestore } from '../schemas/restores.ts'
import { paceOf, percentages } from './progress.ts'
import { timeOrNull } from './units.ts'

export type DiskRestoreAnswer = z.infer<typeof diskRestore>
export type VmRestoreAnswer = z.infer<typeof vmRestore>

/** What is known of a restore when it has just been started. */
export type StartedRestore = Pick<
  RestoreJob,
  'id' | 'backup_id' | 'target' | 'disk_index' | 'target_path' | 'final_path' | 'target_format' | 'created_at'
>

/** `disks`: of a VM restore, in order. A restore of one disk has none. */
export function restoreAnswer(row: RestoreJob, disks: RestoreJob[], now: Date): DiskRestoreAnswer | VmRestoreAnswer {
  return row.target === null ? diskRestoreAnswer(row, now) : vmRestoreAnswer(row, row.target, disks, now)
}

function diskRestoreAnswer(row: RestoreJob, now: Date): DiskRestoreAnswer {
  return { ...commonAnswer(row), ...targetFile(row), ...progressAnswer(row, now) }
}

function vmRestoreAnswer(
  row: RestoreJob,
  target: NonNullable<RestoreJob['target']>,
  disks: RestoreJob[],
  now: Date,
): VmRestoreAnswer {
  const isNew = target.type === 'libvirt'
  return {
    ...commonAnswer(row),
    ...progressAnswer(sumOf(row, disks), now),
    target: target.type,
    source_id: target.sourceId,
    target_vm_name: target.vmName,
    external_id: row.external_id,
    disk_folder: isNew ? target.diskFolder : null,
    connect_network: isNew ? target.connectNetwork : null,
    start: isNew ? target.start : null,
    warnings: row.warnings,
    disks: disks.map((disk) => ({ ...targetFile(disk), ...progressAnswer(disk, now) })),
  }
}

/** A VM's disk is shown with the name that it gets in the end. */
export function targetFile(
  row: Pick<RestoreJob, 'disk_index' | 'target_path' | 'final_path' | 'target_format'>,
): Pick<DiskRestoreAnswer, 'disk_index' | 'target_path' | 'format'> {
  return {
    disk_index: row.disk_index ?? 0,
    target_path: row.final_path ?? row.target_path ?? '',
    format: row.target_format ?? 'qcow2',
  }
}

type Progress = Pick<RestoreJob, 'status' | 'total_bytes' | 'processed_bytes' | 'rate_bytes_per_second' | 'resumed_at_bytes'>

function sumOf(row: RestoreJob, disks: RestoreJob[]): Progress {
  const sum = (key: Exclude<keyof Progress, 'status'>): number => disks.reduce((total, disk) => total + disk[key], 0)
  return {
    status: row.status,
    total_bytes: sum('total_bytes'),
    processed_bytes: sum('processed_bytes'),
    rate_bytes_per_second: sum('rate_bytes_per_second'),
    resumed_at_bytes: sum('resumed_at_bytes'),
  }
}

function progressAnswer(row: Progress, now: Date) {
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
    status: row.status,
    total_bytes: row.total_bytes,
    processed_bytes: row.processed_bytes,
    ...percentages(row.status, row.processed_bytes, row.total_bytes),
    rate_bytes_per_second: pace.ratePerSecond,
    eta_seconds: pace.etaSeconds,
    resumed_at_bytes: row.resumed_at_bytes,
  }
}

function commonAnswer(row: RestoreJob) {
  return {
    id: row.id,
    restore_id: row.id,
    backup_id: row.backup_id,
    vm_name: row.vm_name,
    error_code: row.error_code,
    error_message: row.error_message,
    created_at: row.created_at.toISOString(),
    started_at: timeOrNull(row.started_at),
    completed_at: timeOrNull(row.completed_at),
  }
}
