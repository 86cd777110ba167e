/** Backups: starting, watching and ending them. */
import { z } from '@hono/zod-openapi'
import { backupStates, fullReasons, parkedReasons, warningCodes } from '../../domain/backup.ts'
import {
  errorCodeOrNull,
  id,
  name,
  pageFields,
  pageQuery,
  percentage,
  sizeBytes,
  sizeGb,
  success,
  time,
  timeWithZone,
} from './fields.ts'

export const backupState = z.enum(backupStates).openapi('BackupState')
export const backupType = z.enum(['full', 'incremental'])
export const fullReason = z.union([z.enum(fullReasons).openapi('FullReason'), z.null()])
export const consistency = z.enum(['application', 'filesystem', 'crash']).nullable()

const backupWarning = z
  .strictObject({
    code: z.enum(warningCodes),
    disk: z.string().nullable().openapi({ description: 'Key of the disk; null when it is about the VM' }),
    message: z.string(),
  })
  .openapi('BackupWarning')

export const warnings = z
  .array(backupWarning)
  .openapi({ description: 'What to know of a backup that went well, for example which disks were left out' })

const verificationState = z.enum(['unverified', 'passed', 'failed'])

export const backupParameter = z.strictObject({ id: id.openapi({ param: { name: 'id', in: 'path' } }) })

export const startBackupRequest = z
  .strictObject({
    vm_name: name.optional(),
    vm_context_id: id.optional(),
    repository_id: id,
    backup_type: backupType,
    compression_enabled: z.boolean().default(true),
    rate_limit_bytes_per_second: z
      .int()
      .min(64 * 1024)
      .nullable()
      .default(null),
    policy_id: z.null('no policy exists yet: leave it out').optional(),
  })
  .refine((request) => request.vm_name !== undefined || request.vm_context_id !== undefined, {
    message: 'name the VM by vm_name or vm_context_id',
    path: ['vm_name'],
  })
  .openapi('StartBackupRequest')

const diskResult = z
  .strictObject({
    disk_id: z.int(),
    disk_index: z.int(),
    vmware_disk_key: z.int().nullable(),
    nbd_port: z.int().nullable(),
    label: z.string(),
    size_bytes: sizeBytes,
    size_gb: sizeGb,
    qcow2_path: z.string().nullable(),
    status: backupState,
  })
  .openapi('DiskResult')

export const startBackupAnswer = z
  .strictObject({
    success,
    backup_id: z.string(),
    backup_job_id: z.string(),
    vm_context_id: z.string(),
    vm_name: z.string(),
    repository_id: z.string(),
    policy_id: z.string().nullable(),
    status: z.literal('started'),
    backup_type: backupType,
    requested_type: backupType,
    full_reason: fullReason,
    full_reason_detail: z.string().nullable(),
    parent_backup_id: z.string().nullable(),
    compression_enabled: z.boolean(),
    estimated_size_bytes: sizeBytes.openapi({
      description: 'Bytes the repository may need, for an incremental as far as can be told; 0 while not decided',
    }),
    disk_results: z.array(diskResult),
    created_at: time,
    message: z.string(),
  })
  .openapi('StartBackupAnswer')

export const backupListQuery = z.strictObject({
  ...pageQuery,
  vm_name: name.optional(),
  vm_context_id: id.optional(),
  repository_id: id.optional(),
  status: backupState.optional(),
  backup_type: backupType.optional(),
  from: timeWithZone.optional().openapi({ description: 'Created at or after' }),
  to: timeWithZone.optional().openapi({ description: 'Created before' }),
})

const parked = z
  .strictObject({ reason: z.enum(parkedReasons), since: time, message: z.string() })
  .nullable()
  .openapi({
    description: 'While a running backup waits for room in its repository, or for the repository itself; it goes on by itself',
  })

/** What a list and a detail both say of a backup. */
const backupFields = {
  id: z.string(),
  backup_id: z.string(),
  backup_job_id: z.string(),
  vm_context_id: z.string(),
  vm_name: z.string(),
  repository_id: z.string(),
  repository_name: z.string(),
  policy_id: z.string().nullable(),
  backup_type: backupType,
  requested_type: backupType,
  full_reason: fullReason,
  full_reason_detail: z.string().nullable(),
  parent_backup_id: z.string().nullable(),
  status: backupState,
  parked,
  bytes_transferred: sizeBytes.openapi({ description: 'Written to the repository so far, before compression' }),
  processed_bytes: sizeBytes.openapi({ description: 'Dealt with so far: copied, known zero or unchanged' }),
  total_bytes: sizeBytes.openapi({ description: 'All disks, as the guest sees them' }),
  size_bytes: sizeBytes.openapi({ description: 'Size of the published files; 0 until then' }),
  total_size_gb: sizeGb,
  progress_percent: percentage,
  progress_percentage: percentage,
  disk_count: z.int(),
  compression_enabled: z.boolean(),
  consistency,
  consistency_reason: z.string().nullable(),
  warnings,
  verification_status: verificationState,
  verified_at: time.nullable(),
  locked_until: time.nullable().openapi({
    description:
      'Until when nobody can change or delete its files; later than its own date while a backup that needs it is locked longer',
  }),
  error_code: errorCodeOrNull,
  error_message: z.string().nullable(),
  created_at: time,
  started_at: time.nullable(),
  completed_at: time.nullable(),
}

const copy = z.strictObject({ repository_name: z.string(), status: z.string(), verified_at: time.nullable() })

export const listedBackup = z
  .strictObject({ ...backupFields, copies: z.array(copy).openapi({ description: 'Copies in other repositories' }) })
  .openapi('ListedBackup')

export const backupListAnswer = z.strictObject({ success, backups: z.array(listedBackup), ...pageFields }).openapi('BackupList')

const backupDisk = z
  .strictObject({
    disk_id: z.int(),
    disk_index: z.int(),
    disk_key: z.string(),
    vmware_disk_key: z.int().nullable(),
    label: z.string(),
    status: backupState,
    backup_type: backupType,
    full_reason: fullReason,
    full_reason_detail: z.string().nullable(),
    size_bytes: sizeBytes,
    total_bytes: sizeBytes,
    size_gb: sizeGb,
    file_size_bytes: sizeBytes,
    processed_bytes: sizeBytes,
    bytes_transferred: sizeBytes,
    progress_percent: percentage,
    progress_percentage: percentage,
    rate_bytes_per_second: sizeBytes,
    eta_seconds: z.int().nullable(),
    resumed_at_bytes: sizeBytes.openapi({ description: 'Where the last attempt resumed; 0 when it began at the beginning' }),
    attempt: z.int(),
    qcow2_path: z.string().nullable().openapi({ description: 'Once published' }),
    error_message: z.string().nullable(),
    completed_at: time.nullable(),
  })
  .openapi('BackupDisk')

const detailFields = {
  ...backupFields,
  repository_path: z.string(),
  rate_limit_bytes_per_second: z.int().nullable(),
  rate_bytes_per_second: sizeBytes,
  eta_seconds: z.int().nullable(),
  verification_message: z.string().nullable(),
  workflow_id: z.string(),
  disks: z.array(backupDisk),
}

export const backupDetail = z.strictObject(detailFields).openapi('Backup')

/** Both documents' forms at once: the fields at the top, and again under `backup`. */
export const backupAnswer = z.strictObject({ success, ...detailFields, backup: backupDetail }).openapi('BackupAnswer')

export const cancelBackupAnswer = z
  .strictObject({ success, backup_id: z.string(), status: z.literal('cancelling'), message: z.string() })
  .openapi('CancelBackupAnswer')

export const deleteBackupAnswer = z
  .strictObject({ success, backup_id: z.string(), message: z.string() })
  .openapi('DeleteBackupAnswer')

export const verifyBackupAnswer = z
  .strictObject({
    success,
    backup_id: z.string(),
    repository_id: z.string(),
    workflow_id: z.string(),
    status: z.literal('started'),
    verification_status: verificationState.openapi({ description: 'As it stands; the new result lands in the backup' }),
    message: z.string(),
  })
  .openapi('VerifyBackupAnswer')
