/** Backups as the API shows them: the union of the fields that its readers were promised. */
import type { z } from '@hono/zod-openapi'
import type { BackupDetail, BackupDisk } from '../../db/queries/backup-detail.ts'
import type { BackupJob, ListedBackup } from '../../db/queries/backup-list.ts'
import type { BackupRepository } from '../../db/queries/repositories.ts'
import { etaSeconds } from '../../domain/progress.ts'
import type { backupDetail, listedBackup } from '../schemas/backups.ts'
import { paceOf, percentages } from './progress.ts'
import { gigabytes, timeOrNull } from './units.ts'

type ListedBackupAnswer = z.infer<typeof listedBackup>
export type BackupDetailAnswer = z.infer<typeof backupDetail>

export function listedBackupAnswer(backup: ListedBackup): ListedBackupAnswer {
  return {
    ...backupFields(backup, backup.processed_bytes),
    repository_name: backup.repository_name,
    disk_count: backup.disk_count,
    copies: [],
  }
}

export function backupDetailAnswer({ job, disks, repository }: BackupDetail, now: Date): BackupDetailAnswer {
  const processed = disks.reduce((sum, disk) => sum + disk.processed_bytes, 0)
  const rate = disks.reduce((sum, disk) => sum + paceOfDisk(disk, now).ratePerSecond, 0)
  return {
    ...backupFields(job, disks.length === 0 ? job.processed_bytes : processed),
    repository_name: repository.name,
    disk_count: disks.length,
    repository_path: placeOf(job, repository),
    rate_limit_bytes_per_second: job.rate_limit_bytes_per_second,
    rate_bytes_per_second: rate,
    eta_seconds: job.status === 'running' ? etaSeconds(processed, job.total_bytes, rate) : null,
    verification_message: job.verification_message,
    workflow_id: job.workflow_id,
    disks: disks.map((disk) => diskAnswer(disk, job, now)),
  }
}

function backupFields(job: BackupJob, processed: number): Omit<ListedBackupAnswer, 'copies' | 'repository_name' | 'disk_count'> {
  return {
    id: job.id,
    backup_id: job.id,
    backup_job_id: job.id,
    vm_context_id: job.vm_context_id,
    vm_name: job.vm_name,
    repository_id: job.repository_id,
    policy_id: job.policy_id,
    backup_type: job.backup_type,
    requested_type: job.requested_type,
    full_reason: job.full_reason,
    full_reason_detail: job.full_reason_detail,
    parent_backup_id: job.parent_backup_id,
    status: job.status,
    parked: parkedAnswer(job),
    bytes_transferred: job.bytes_transferred,
    processed_bytes: processed,
    total_bytes: job.total_bytes,
    size_bytes: job.size_bytes,
    total_size_gb: gigabytes(job.size_bytes),
    ...percentages(job.status, processed, job.total_bytes),
    compression_enabled: job.compression !== 'none',
    consistency: job.consistency,
    consistency_reason: job.consistency_reason,
    warnings: job.warnings,
    verification_status: job.verification_status,
    verified_at: timeOrNull(job.verified_at),
    locked_until: timeOrNull(job.locked_until),
    error_code: job.error_code,
    error_message: job.error_message,
    created_at: job.created_at.toISOString(),
    started_at: timeOrNull(job.started_at),
    completed_at: timeOrNull(job.completed_at),
  }
}

function parkedAnswer(job: BackupJob): ListedBackupAnswer['parked'] {
  const { parked_reason: reason, parked_at: since, parked_message: message } = job
  return reason === null || since === null ? null : { reason, since: since.toISOString(), message: message ?? '' }
}

function diskAnswer(disk: BackupDisk, job: BackupJob, now: Date): BackupDetailAnswer['disks'][number] {
  const pace = paceOfDisk(disk, now)
  return {
    disk_id: disk.disk_index,
    disk_index: disk.disk_index,
    disk_key: disk.disk_key,
    vmware_disk_key: null,
    label: disk.label,
    status: disk.status,
    backup_type: disk.backup_type,
    full_reason: disk.full_reason,
    full_reason_detail: disk.full_reason_detail,
    size_bytes: disk.size_bytes,
    total_bytes: disk.size_bytes,
    size_gb: gigabytes(disk.size_bytes),
    file_size_bytes: disk.file_size_bytes,
    processed_bytes: disk.processed_bytes,
    bytes_transferred: disk.bytes_transferred,
    ...percentages(disk.status, disk.processed_bytes, disk.size_bytes),
    rate_bytes_per_second: pace.ratePerSecond,
    eta_seconds: pace.etaSeconds,
    resumed_at_bytes: disk.resumed_at_bytes,
    attempt: disk.attempt,
    // Before the rename the path names nothing, and after a failure it never will.
    qcow2_path: job.status === 'completed' ? disk.qcow2_path : null,
    error_message: disk.error_message,
    completed_at: timeOrNull(disk.completed_at),
  }
}

function paceOfDisk(disk: BackupDisk, now: Date) {
  return paceOf(
    {
      status: disk.status,
      processed: disk.processed_bytes,
      total: disk.size_bytes,
      ratePerSecond: disk.rate_bytes_per_second,
      reportedAt: disk.progress_at,
    },
    now,
  )
}

/** The folder of the backup on the host that holds it; relative to the repository's root where that is no folder of a host. */
function placeOf(job: BackupJob, repository: BackupRepository): string {
  const { path } = repository.config
  return typeof path === 'string' ? `${path.replace(/\/+$/, '')}/${job.repository_path}` : job.repository_path
}
