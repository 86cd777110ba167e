/** Which disks of which VMs restore mounts are of. */
import type { Catalog } from '../client.ts'

export interface DiskNames {
  vmName: string
  label: string
}

/** By the id of the backup's disk. */
export async function mountedDisks(catalog: Catalog, backupDiskIds: readonly number[]): Promise<Map<number, DiskNames>> {
  if (backupDiskIds.length === 0) return new Map()
  const rows = await catalog
    .selectFrom('backup_disks')
    .innerJoin('backup_jobs', 'backup_jobs.id', 'backup_disks.backup_job_id')
    .select(['backup_disks.id', 'backup_disks.label', 'backup_jobs.vm_name'])
    .where('backup_disks.id', 'in', backupDiskIds)
    .execute()
  return new Map(rows.map((row) => [row.id, { vmName: row.vm_name, label: row.label }]))
}
