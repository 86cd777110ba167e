/** Reading restores, newest first. The disks of a VM restore are not restores of their own here. */
import type { Selectable } from 'kysely'
import type { WorkState } from '../../domain/backup.ts'
import type { Catalog } from '../client.ts'
import type { RestoreJobsTable } from '../schema.ts'
import { countUpTo, pageNewestFirst } from './page.ts'
import type { NewestFirst, Page } from './page.ts'

export type RestoreJob = Selectable<RestoreJobsTable>

export interface RestoreFilter {
  backupId?: string | undefined
  vmName?: string | undefined
  status?: WorkState | undefined
}

export async function listRestores(catalog: Catalog, filter: RestoreFilter, page: Page<NewestFirst>): Promise<RestoreJob[]> {
  return pageNewestFirst(filtered(catalog, filter).selectAll(), 'created_at', page).execute()
}

/** How many match: all, or counted no further than `most`, which stays quick in a catalog of any size. */
export async function countRestores(catalog: Catalog, filter: RestoreFilter, most?: number): Promise<number> {
  return countUpTo(catalog, filtered(catalog, filter), most)
}

export async function findRestore(catalog: Catalog, id: string): Promise<RestoreJob | undefined> {
  return catalog
    .selectFrom('restore_jobs')
    .selectAll()
    .where('id', '=', id)
    .where('parent_restore_id', 'is', null)
    .executeTakeFirst()
}

/** Disks of VM restores in their order, by the restore's id. One that is no VM restore is absent. */
export async function disksOfRestores(catalog: Catalog, restoreIds: readonly string[]): Promise<Map<string, RestoreJob[]>> {
  if (restoreIds.length === 0) return new Map()
  const rows = await catalog
    .selectFrom('restore_jobs')
    .selectAll()
    .where('parent_restore_id', 'in', restoreIds)
    .orderBy('parent_restore_id')
    .orderBy('disk_index')
    .execute()
  return Map.groupBy(rows, (row) => row.parent_restore_id ?? '')
}

function filtered(catalog: Catalog, filter: RestoreFilter) {
  return catalog
    .selectFrom('restore_jobs')
    .where('parent_restore_id', 'is', null)
    .$if(filter.backupId !== undefined, (query) => query.where('backup_id', '=', filter.backupId!))
    .$if(filter.vmName !== undefined, (query) => query.where('vm_name', '=', filter.vmName!))
    .$if(filter.status !== undefined, (query) => query.where('status', '=', filter.status!))
}
