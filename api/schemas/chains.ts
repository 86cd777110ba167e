/** Chains: the recovery points that hang on one full backup. */
import { z } from '@hono/zod-openapi'
import { backupState, backupType, consistency, fullReason, warnings } from './backups.ts'
import { id, name, sizeBytes, sizeGb, success, time } from './fields.ts'

export const chainQuery = z
  .strictObject({
    vm_name: name.optional(),
    vm_context_id: id.optional(),
    disk_id: z.coerce.number().int().min(0).max(1023).optional().openapi({ description: 'Sizes of this disk alone' }),
    repository_id: id.optional().openapi({ description: 'When absent: where the newest completed backup lies' }),
  })
  .refine((query) => query.vm_name !== undefined || query.vm_context_id !== undefined, {
    message: 'name the VM by vm_name or vm_context_id',
    path: ['vm_name'],
  })

const chainDisk = z
  .strictObject({
    disk_id: z.int(),
    disk_key: z.string(),
    backup_type: backupType,
    full_reason: fullReason,
    full_reason_detail: z.string().nullable(),
  })
  .openapi('ChainDisk')

const chainBackup = z
  .strictObject({
    id: z.string(),
    backup_id: z.string(),
    backup_type: backupType,
    full_reason: fullReason,
    full_reason_detail: z.string().nullable(),
    consistency,
    consistency_reason: z.string().nullable(),
    warnings,
    status: backupState,
    sequence_number: z.int().min(1),
    parent_backup_id: z.string().nullable(),
    is_restorable: z
      .boolean()
      .openapi({ description: 'False when it, or a backup it depends on, failed verification or is missing' }),
    verification_status: z.enum(['unverified', 'passed', 'failed']),
    size_bytes: sizeBytes,
    size_gb: sizeGb,
    created_at: time,
    completed_at: time.nullable(),
    disks: z.array(chainDisk).openapi({ description: 'One that could not continue its chain is a full beside incrementals' }),
  })
  .openapi('ChainBackup')

const chain = z
  .strictObject({
    id: z.string(),
    vm_context_id: z.string(),
    repository_id: z.string(),
    disk_id: z.int().nullable(),
    full_backup_id: z.string(),
    latest_backup_id: z.string(),
    total_backups: z.int(),
    total_size_bytes: sizeBytes,
    chain_size_gb: sizeGb,
    backups: z.array(chainBackup),
  })
  .openapi('Chain')

/** Two documents, two forms of `chain`: an object when the VM is named by id, the list of backups when it is named by name. Everything else is the same. */
export const chainAnswer = z
  .strictObject({
    success,
    chain_id: z.string(),
    vm_context_id: z.string(),
    vm_name: z.string(),
    repository_id: z.string(),
    disk_id: z.int().nullable(),
    full_backup_id: z.string(),
    latest_backup_id: z.string(),
    total_backups: z.int(),
    total_size_bytes: sizeBytes,
    chain_size_gb: sizeGb,
    backups: z.array(chainBackup),
    chain: z.union([chain, z.array(chainBackup)]).openapi({
      description: 'With vm_context_id: the chain as an object. With vm_name alone: its backups, as in `backups`.',
    }),
  })
  .openapi('ChainAnswer')
