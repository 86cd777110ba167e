/** The sources' tokens for "what changed since", as the catalog keeps them. */
import type { Catalog } from '../client.ts'

/**
 * Change IDs of a VM that the next incremental may start from: those of the newest completed backup in each repository. The source
 * must keep these, and may forget all others of ours.
 */
export async function changeIdsInUseOf(catalog: Catalog, vmContextId: string): Promise<string[]> {
  const newest = catalog
    .selectFrom('backup_jobs')
    .select([
      'id',
      (row) =>
        row.fn
          .agg<number>('row_number')
          .over((over) => over.partitionBy('repository_id').orderBy('created_at', 'desc').orderBy('id', 'desc'))
          .as('age'),
    ])
    .where('vm_context_id', '=', vmContextId)
    .where('status', '=', 'completed')
  const rows = await catalog
    .with('newest', () => newest)
    .selectFrom('newest')
    .innerJoin('backup_disks', 'backup_disks.backup_job_id', 'newest.id')
    .select('backup_disks.disk_change_id')
    .distinct()
    .where('newest.age', '=', 1)
    .where('backup_disks.disk_change_id', 'is not', null)
    .execute()
  return rows.flatMap((row) => (row.disk_change_id === null ? [] : [row.disk_change_id]))
}
