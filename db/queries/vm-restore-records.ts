/** Writing the life of a VM's restore. Its disks are restores of their own, below it; what they write is in `restore-records.ts`. */
import { diskRestoreId } from '../../domain/restore.ts'
import type { VmTarget } from '../../domain/restore.ts'
import type { WorkState } from '../../domain/backup.ts'
import type { Catalog } from '../client.ts'
import { restoreNotFound } from './restore-records.ts'

export interface NewVmRestore {
  restoreId: string
  backupId: string
  /** Of the VM that was backed up. */
  vmName: string
  target: VmTarget
  workflowId: string
  disks: NewVmRestoreDisk[]
}

export interface NewVmRestoreDisk {
  index: number
  sizeBytes: number
  writePath: string
  path: string
  format: 'raw' | 'qcow2'
}

export interface VmRestoreRecord {
  id: string
  backup_id: string
  target: VmTarget
  external_id: string | null
  status: WorkState
  disks: {
    id: string
    disk_index: number
    target_path: string
    final_path: string
    target_format: 'raw' | 'qcow2'
    status: WorkState
  }[]
}

/** Notes a restore whose targets have been checked, as `running`; its disks wait. Idempotent. */
export async function insertVmRestore(catalog: Catalog, restore: NewVmRestore): Promise<void> {
  const { restoreId, backupId, vmName, workflowId, target, disks } = restore
  const common = { backup_id: backupId, vm_name: vmName, workflow_id: workflowId, target_type: target.type }
  const open = { error_code: null, error_message: null, external_id: null, completed_at: null }
  // All rows or none are there.
  if (await findVmRestore(catalog, restoreId)) return
  await catalog.transaction().execute(async (transaction) => {
    await transaction
      .insertInto('restore_jobs')
      .values({
        id: restoreId,
        ...common,
        ...open,
        parent_restore_id: null,
        target: JSON.stringify(target),
        disk_index: null,
        target_path: null,
        final_path: null,
        target_format: null,
        status: 'running',
        total_bytes: disks.reduce((sum, disk) => sum + disk.sizeBytes, 0),
        started_at: new Date(),
      })
      .execute()
    await transaction
      .insertInto('restore_jobs')
      .values(
        disks.map((disk) => ({
          id: diskRestoreId(restoreId, disk.index),
          ...common,
          ...open,
          parent_restore_id: restoreId,
          target: null,
          disk_index: disk.index,
          target_path: disk.writePath,
          final_path: disk.path,
          target_format: disk.format,
          status: 'pending' as const,
          total_bytes: disk.sizeBytes,
          started_at: null,
        })),
      )
      .execute()
  })
}

/** With its disks in their order; `undefined` when it is none, or not of a whole VM. */
export async function findVmRestore(catalog: Catalog, restoreId: string): Promise<VmRestoreRecord | undefined> {
  const row = await catalog
    .selectFrom('restore_jobs')
    .select(['id', 'backup_id', 'target', 'external_id', 'status'])
    .where('id', '=', restoreId)
    .executeTakeFirst()
  if (!row?.target) return undefined
  const disks = await catalog
    .selectFrom('restore_jobs')
    .select(['id', 'disk_index', 'target_path', 'final_path', 'target_format', 'status'])
    .where('parent_restore_id', '=', restoreId)
    .orderBy('disk_index')
    .$narrowType<{ disk_index: number; target_path: string; final_path: string; target_format: 'raw' | 'qcow2' }>()
    .execute()
  return { ...row, target: row.target, disks }
}

/** `RESTORE_NOT_FOUND` */
export async function loadVmRestore(catalog: Catalog, restoreId: string): Promise<VmRestoreRecord> {
  const found = await findVmRestore(catalog, restoreId)
  if (!found) throw restoreNotFound(restoreId)
  return found
}

/** A disk of it is being written from now on. Idempotent. */
export async function noteDiskBegins(catalog: Catalog, diskRestoreId: string): Promise<void> {
  await catalog
    .updateTable('restore_jobs')
    .set({ status: 'running', started_at: new Date() })
    .where('id', '=', diskRestoreId)
    .where('status', '=', 'pending')
    .execute()
}

/** What came of it. Idempotent. */
export async function noteRestoredVm(
  catalog: Catalog,
  restoreId: string,
  vm: { externalId: string; warnings: readonly string[] },
): Promise<void> {
  await catalog
    .updateTable('restore_jobs')
    .set({ external_id: vm.externalId, warnings: JSON.stringify(vm.warnings) })
    .where('id', '=', restoreId)
    .execute()
}

/** One more thing that a person should know. */
export async function addRestoreWarning(catalog: Catalog, restoreId: string, warning: string): Promise<void> {
  const row = await catalog.selectFrom('restore_jobs').select('warnings').where('id', '=', restoreId).executeTakeFirst()
  if (!row || row.warnings.includes(warning)) return
  const warnings = JSON.stringify([...row.warnings, warning])
  await catalog.updateTable('restore_jobs').set({ warnings }).where('id', '=', restoreId).execute()
}

/**
 * From now on no backup builds on one that was taken before. A VM that is known through two connections to its hypervisor is marked in both.
 */
export async function markOverwritten(catalog: Catalog, vmContextId: string, at: Date): Promise<void> {
  const vm = await catalog
    .selectFrom('vm_contexts')
    .select(['source_type', 'external_id'])
    .where('context_id', '=', vmContextId)
    .executeTakeFirst()
  const externalId = vm?.external_id ?? null
  await catalog
    .updateTable('vm_contexts')
    .set({ restored_in_place_at: at })
    .where((row) =>
      row.or([
        row('context_id', '=', vmContextId),
        ...(vm && externalId !== null
          ? [row.and([row('source_type', '=', vm.source_type), row('external_id', '=', externalId)])]
          : []),
      ]),
    )
    .execute()
}
