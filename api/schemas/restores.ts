/** Restoring a disk of a backup to a file. */
import { z } from '@hono/zod-openapi'
import { backupState } from './backups.ts'
import { errorCodeOrNull, id, name, pageFields, pageQuery, percentage, sizeBytes, success, time } from './fields.ts'

export const restoreParameter = z.strictObject({ id: id.openapi({ param: { name: 'id', in: 'path' } }) })

export const startRestoreRequest = z
  .strictObject({
    disk_index: z.int().min(0).max(1023),
    target_path: z.string().min(1).max(4096).openapi({ description: 'A new file on the data host, outside every repository' }),
    format: z.enum(['raw', 'qcow2']).default('raw'),
  })
  .openapi('StartRestoreRequest')

export const startRestoreAnswer = z
  .strictObject({
    success,
    restore_id: z.string(),
    backup_id: z.string(),
    disk_index: z.int(),
    target_path: z.string(),
    format: z.enum(['raw', 'qcow2']),
    status: z.literal('started'),
    created_at: time,
    message: z.string(),
  })
  .openapi('StartRestoreAnswer')

export const restoreListQuery = z.strictObject({
  ...pageQuery,
  backup_id: id.optional(),
  vm_name: name.optional(),
  status: backupState.optional(),
})

const restoreFields = {
  id: z.string(),
  restore_id: z.string(),
  backup_id: z.string(),
  vm_name: z.string(),
  disk_index: z.int(),
  target_path: z.string(),
  format: z.enum(['raw', 'qcow2']),
  status: backupState,
  total_bytes: sizeBytes,
  processed_bytes: sizeBytes,
  progress_percent: percentage,
  progress_percentage: percentage,
  rate_bytes_per_second: sizeBytes,
  eta_seconds: z.int().nullable(),
  resumed_at_bytes: sizeBytes,
  error_code: errorCodeOrNull,
  error_message: z.string().nullable(),
  created_at: time,
  started_at: time.nullable(),
  completed_at: time.nullable(),
}

export const restore = z.strictObject(restoreFields).openapi('Restore')

export const restoreListAnswer = z.strictObject({ success, restores: z.array(restore), ...pageFields }).openapi('RestoreList')

/** In the same two forms as a backup: at the top, and under `restore`. */
export const restoreAnswer = z.strictObject({ success, ...restoreFields, restore }).openapi('RestoreAnswer')

export const cancelRestoreAnswer = z
  .strictObject({ success, restore_id: z.string(), status: z.literal('cancelling'), message: z.string() })
  .openapi('CancelRestoreAnswer')
