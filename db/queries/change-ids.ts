/** The sources' tokens for "what changed since", as the catalog keeps them. */
import type { Catalog } from '../client.ts'

/**
 * Change IDs of a VM that the next incremental may start from: those of the newest completed backup in each repository. The source
 * must keep these, and may forget all others of ours.
 */
export async function changeIdsInUseOf(catalog: Catalog, vmContextId: string): Promise<string[]> {
  return changeIdsOfNewest(catalog, completed(catalog).where('vm_context_id', '=', vmContextId))
}

/** The same of all VMs of a source. */
export async function changeIdsInUseOfSource(catalog: Catalog, sourceId: string): Promise<string[]> {
  const vms = catalog.selectFrom('vm_contexts').select('context_id').where('source_id', '=', sourceId)
  return changeIdsOfNewest(catalog, completed(catalog).where('vm_context_id', 'in', vms))
}

/** Completed backups with their age: 1 is the newest of its VM in its repository. */
function completed(catalog: Catalog) {
  return catalog
    .selectFrom('backup_jobs')
    .select([
      'id',
      (row) =>
        row.fn
          .agg<number>('row_number')
          .over((over) =>
            over.partitionBy(['vm_context_id', 'repository_id']).orderBy('created_at', 'desc').orderBy('id', 'desc'),
          )
          .as('age'),
    ])
    .where('status', '=', 'completed')
}

async function changeIdsOfNewest(catalog: Catalog, aged: ReturnType<typeof completed>): Promise<string[]> {
  const rows = await catalog
    .with('newest', () => aged)
    .selectFrom('newest')
    .innerJoin('backup_disks', 'backup_disks.backup_job_id', 'newest.id')
    .select('backup_disks.disk_change_id')
    .distinct()
    .where('newest.age', '=', 1)
    .where('backup_disks.disk_change_id', 'is not', null)
    .execute()
  return rows.flatMap((row) => (row.disk_change_id === null ? [] : [row.disk_change_id]))
}
