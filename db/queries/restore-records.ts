/** Writing the life of a restore. */
import type { WorkState } from '../../domain/backup.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { ErrorCode } from '../../domain/errors.ts'
import type { Catalog } from '../client.ts'
import { isDuplicateKey } from '../driver-errors.ts'

export interface NewRestore {
  restoreId: string
  backupId: string
  vmName: string
  diskIndex: number
  targetPath: string
  targetFormat: 'raw' | 'qcow2'
  totalBytes: number
  workflowId: string
}

export type RestoreEnd =
  | { restoreId: string; state: 'completed' }
  | { restoreId: string; state: 'failed' | 'cancelled'; code: ErrorCode; message: string }

/** Notes a restore whose target has been checked, as `running`. `RESTORE_TARGET_EXISTS` while another one writes that file. Idempotent. */
export async function insertRestore(catalog: Catalog, restore: NewRestore): Promise<void> {
  try {
    await catalog
      .insertInto('restore_jobs')
      .values({
        id: restore.restoreId,
        backup_id: restore.backupId,
        vm_name: restore.vmName,
        parent_restore_id: null,
        target: null,
        disk_index: restore.diskIndex,
        target_path: restore.targetPath,
        final_path: null,
        external_id: null,
        target_format: restore.targetFormat,
        status: 'running',
        total_bytes: restore.totalBytes,
        workflow_id: restore.workflowId,
        error_code: null,
        error_message: null,
        started_at: new Date(),
        completed_at: null,
      })
      .execute()
  } catch (error) {
    if (!isDuplicateKey(error)) throw error
    if (await isRecorded(catalog, restore.restoreId)) return
    throw new HoldfastError(
      'RESTORE_TARGET_EXISTS',
      `"${restore.targetPath}" is being written by another restore. Choose another name, or wait for that one to end.`,
      { details: { path: restore.targetPath } },
    )
  }
}

async function isRecorded(catalog: Catalog, restoreId: string): Promise<boolean> {
  const row = await catalog.selectFrom('restore_jobs').select('id').where('id', '=', restoreId).executeTakeFirst()
  return row !== undefined
}

/** The restore of one disk, whether it stands alone or is part of a VM's. */
export interface DiskRestore {
  id: string
  backup_id: string
  disk_index: number
  target_path: string
  target_format: 'raw' | 'qcow2'
  status: WorkState
}

/** `RESTORE_NOT_FOUND` */
export async function loadRestore(catalog: Catalog, restoreId: string): Promise<DiskRestore> {
  const restore = await catalog
    .selectFrom('restore_jobs')
    .select(['id', 'backup_id', 'disk_index', 'target_path', 'target_format', 'status', 'workflow_id'])
    .where('id', '=', restoreId)
    .executeTakeFirst()
  const { disk_index: diskIndex, target_path: path, target_format: format } = restore ?? {}
  if (restore && diskIndex != null && path != null && format != null)
    return { ...restore, disk_index: diskIndex, target_path: path, target_format: format }
  throw restoreNotFound(restoreId)
}

export function restoreNotFound(restoreId: string): HoldfastError {
  return new HoldfastError('RESTORE_NOT_FOUND', `Restore ${restoreId} is not in the catalog.`, {
    details: { restore_id: restoreId },
  })
}

/** A restore that has ended keeps the end it has; the unfinished disks of a VM restore end with it. */
export async function endRestore(catalog: Catalog, end: RestoreEnd): Promise<void> {
  const reason = end.state === 'completed' ? { code: null, message: null } : end
  await catalog
    .updateTable('restore_jobs')
    .set((row) => ({
      status: end.state,
      error_code: reason.code,
      error_message: reason.message,
      rate_bytes_per_second: 0,
      completed_at: new Date(),
      ...(end.state === 'completed' ? { processed_bytes: row.ref('total_bytes') } : {}),
    }))
    .where((row) => row.or([row('id', '=', end.restoreId), row('parent_restore_id', '=', end.restoreId)]))
    .where('status', 'in', ['pending', 'running'])
    .execute()
}
