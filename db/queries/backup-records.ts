/** Writing the life of a backup: asked for, admitted, published or ended. Every statement may run twice. */
import type { Selectable } from 'kysely'
import type { BackupState, BackupType, BackupWarning, Compression, FullReason } from '../../domain/backup.ts'
import type { ChainBackup } from '../../domain/chain.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { ErrorCode } from '../../domain/errors.ts'
import type { Catalog } from '../client.ts'
import type { BackupDisksTable, BackupJobsTable, BackupRepositoriesTable, VmContextsTable } from '../schema.ts'
import { findBackupDetail } from './backup-detail.ts'
import { unparkForGood } from './parking.ts'
import { releaseSpace } from './reservations.ts'
import { findVmContext } from './vm-contexts.ts'

export interface NewBackup {
  backupId: string
  vmContextId: string
  vmName: string
  repositoryId: string
  requestedType: BackupType
  compression: Compression
  rateLimitBytesPerSecond: number | null
  repositoryPath: string
  workflowId: string
}

export interface AdmittedBackup {
  backupId: string
  backupType: BackupType
  fullReason: FullReason | null
  fullReasonDetail: string | null
  parentBackupId: string | null
  warnings: BackupWarning[]
  disks: AdmittedDisk[]
}

export interface AdmittedDisk {
  index: number
  key: string
  label: string
  backupType: BackupType
  fullReason: FullReason | null
  fullReasonDetail: string | null
  sizeBytes: number
  /** Where the QCOW2 will lie once published. */
  qcow2Path: string
}

/** A backup with all that a step needs to work on it. */
export interface BackupWork {
  job: Selectable<BackupJobsTable>
  disks: Selectable<BackupDisksTable>[]
  vm: Selectable<VmContextsTable>
  repository: Selectable<BackupRepositoriesTable>
}

/** Notes a request, as `pending`. What it becomes is not known yet, so the type is the one asked for. */
export async function insertPendingBackup(catalog: Catalog, backup: NewBackup): Promise<void> {
  await catalog
    .insertInto('backup_jobs')
    .values({
      id: backup.backupId,
      vm_context_id: backup.vmContextId,
      vm_name: backup.vmName,
      repository_id: backup.repositoryId,
      policy_id: null,
      requested_type: backup.requestedType,
      backup_type: backup.requestedType,
      full_reason: null,
      full_reason_detail: null,
      repository_path: backup.repositoryPath,
      parent_backup_id: null,
      consistency: null,
      consistency_reason: null,
      compression: backup.compression,
      rate_limit_bytes_per_second: backup.rateLimitBytesPerSecond,
      workflow_id: backup.workflowId,
      verified_at: null,
      verification_message: null,
      error_code: null,
      error_message: null,
      started_at: null,
      completed_at: null,
    })
    .onDuplicateKeyUpdate({ workflow_id: backup.workflowId })
    .execute()
}

/** `BACKUP_NOT_FOUND` when the row, or the VM it belongs to, is gone. */
export async function loadBackupWork(catalog: Catalog, backupId: string): Promise<BackupWork> {
  const detail = await findBackupDetail(catalog, backupId)
  const vm = detail && (await findVmContext(catalog, detail.job.vm_context_id))
  if (!vm) {
    throw new HoldfastError('BACKUP_NOT_FOUND', `Backup ${backupId} is not in the catalog (any more).`, {
      details: { backup_id: backupId },
    })
  }
  return { ...detail, vm }
}

/** Every backup of a VM in a repository, newest first, as the chain rules see them. */
export async function listChainBackups(catalog: Catalog, vmContextId: string, repositoryId: string): Promise<ChainBackup[]> {
  const jobs = await catalog
    .selectFrom('backup_jobs')
    .select(['id', 'parent_backup_id', 'backup_type', 'status', 'verification_status'])
    .where('vm_context_id', '=', vmContextId)
    .where('repository_id', '=', repositoryId)
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .execute()
  return jobs.map((job) => ({
    id: job.id,
    parentBackupId: job.parent_backup_id,
    backupType: job.backup_type,
    state: job.status,
    verification: job.verification_status,
    disks: [],
  }))
}

/** Largest published file of one disk among the last incrementals, in bytes; `null` when there is none to learn from. */
export async function largestRecentIncrement(
  catalog: Catalog,
  disk: { vmContextId: string; repositoryId: string; diskKey: string },
): Promise<number | null> {
  const rows = await catalog
    .selectFrom('backup_disks')
    .innerJoin('backup_jobs', 'backup_jobs.id', 'backup_disks.backup_job_id')
    .select('backup_disks.file_size_bytes')
    .where('backup_jobs.vm_context_id', '=', disk.vmContextId)
    .where('backup_jobs.repository_id', '=', disk.repositoryId)
    .where('backup_jobs.status', '=', 'completed')
    .where('backup_disks.disk_key', '=', disk.diskKey)
    .where('backup_disks.backup_type', '=', 'incremental')
    .orderBy('backup_jobs.created_at', 'desc')
    .limit(10)
    .execute()
  return rows.length === 0 ? null : Math.max(...rows.map((row) => row.file_size_bytes))
}

/** Stores what the backup is, with its disks, as `running`. Asked again (the source changed), the disks begin anew. */
export async function recordAdmission(catalog: Catalog, admitted: AdmittedBackup): Promise<void> {
  const { backupId, disks } = admitted
  await catalog.transaction().execute(async (transaction) => {
    await transaction
      .updateTable('backup_jobs')
      .set((row) => ({
        status: 'running',
        backup_type: admitted.backupType,
        full_reason: admitted.fullReason,
        full_reason_detail: admitted.fullReasonDetail,
        parent_backup_id: admitted.parentBackupId,
        warnings: JSON.stringify(admitted.warnings),
        total_bytes: disks.reduce((sum, disk) => sum + disk.sizeBytes, 0),
        processed_bytes: 0,
        bytes_transferred: 0,
        started_at: row.fn.coalesce('started_at', row.val(new Date())),
      }))
      .where('id', '=', backupId)
      .where('status', 'in', ['pending', 'running'])
      .execute()
    await unparkForGood(transaction, backupId)
    await transaction.deleteFrom('backup_disks').where('backup_job_id', '=', backupId).execute()
    await transaction
      .insertInto('backup_disks')
      .values(disks.map((disk) => diskRow(backupId, disk)))
      .execute()
  })
}

/** `failed` or `cancelled`, with the reason, for the backup and its disks. A backup that has ended keeps the end it has. */
export async function endBackup(
  catalog: Catalog,
  end: { backupId: string; state: Extract<BackupState, 'failed' | 'cancelled'>; code: ErrorCode; message: string },
): Promise<void> {
  const now = new Date()
  await catalog.transaction().execute(async (transaction) => {
    await transaction
      .updateTable('backup_jobs')
      .set({ status: end.state, error_code: end.code, error_message: end.message, completed_at: now })
      .where('id', '=', end.backupId)
      .where('status', 'in', ['pending', 'running'])
      .execute()
    await transaction
      .updateTable('backup_disks')
      .set({ status: end.state, rate_bytes_per_second: 0, completed_at: now })
      .where('backup_job_id', '=', end.backupId)
      .where('status', 'in', ['pending', 'running'])
      .execute()
    await releaseSpace(transaction, end.backupId)
    await unparkForGood(transaction, end.backupId)
  })
}

/** Why one disk could not be copied, beside the backup's own reason. */
export async function noteDiskFailure(catalog: Catalog, backupId: string, diskIndex: number, message: string): Promise<void> {
  await catalog
    .updateTable('backup_disks')
    .set({ error_message: message })
    .where('backup_job_id', '=', backupId)
    .where('disk_index', '=', diskIndex)
    .execute()
}

function diskRow(backupId: string, disk: AdmittedDisk) {
  return {
    backup_job_id: backupId,
    disk_index: disk.index,
    disk_key: disk.key,
    label: disk.label,
    backup_type: disk.backupType,
    full_reason: disk.fullReason,
    full_reason_detail: disk.fullReasonDetail,
    qcow2_path: disk.qcow2Path,
    size_bytes: disk.sizeBytes,
    disk_change_id: null,
    blocks_sha256: null,
    error_message: null,
    progress_at: null,
    completed_at: null,
  }
}
