/** Reading restores, newest first. The disks of a VM restore are not restores of their own here. */
import { sql } from 'kysely'
import type { Selectable } from 'kysely'
import type { WorkState } from '../../domain/backup.ts'
import type { Catalog } from '../client.ts'
import type { RestoreJobsTable } from '../schema.ts'
import type { NewestFirst, Page } from './page.ts'

export type RestoreJob = Selectable<RestoreJobsTable>

export interface RestoreFilter {
  backupId?: string | undefined
  vmName?: string | undefined
  status?: WorkState | undefined
}

export async function listRestores(catalog: Catalog, filter: RestoreFilter, page: Page<NewestFirst>): Promise<RestoreJob[]> {
  const { after } = page
  return filtered(catalog, filter)
    .selectAll()
    .$if(after !== undefined, (query) =>
      query
        .where('created_at', '<=', after!.createdAt)
        .where((row) => row.or([row('created_at', '<', after!.createdAt), row('id', '<', after!.id)])),
    )
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(page.limit)
    .execute()
}

/** How many match: all, or counted no further than `most`, which stays quick in a catalog of any size. */
export async function countRestores(catalog: Catalog, filter: RestoreFilter, most?: number): Promise<number> {
  const matching = filtered(catalog, filter)
  // Counting a bounded part needs a derived table, which for everything would cost several times the plain count.
  const total = sql<number>`count(*)`.as('total')
  const counting =
    most === undefined ? matching.select(total) : catalog.selectFrom(matching.select('id').limit(most).as('some')).select(total)
  const row = await counting.executeTakeFirstOrThrow()
  return row.total
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
