/**
 * Lists of backups, newest first. Every filter walks an index in that order, so a page costs the same among a thousand or a million.
 * Names and counts of the page's rows come in one further query each: a join would let the optimizer start from the small table and sort everything.
 */
import type { Selectable } from 'kysely'
import type { BackupState, BackupType } from '../../domain/backup.ts'
import type { Catalog } from '../client.ts'
import type { BackupJobsTable } from '../schema.ts'
import { countUpTo, pageNewestFirst } from './page.ts'
import type { NewestFirst, Page } from './page.ts'
import { repositoryNames } from './repositories.ts'

export interface BackupFilter {
  vmContextId?: string | undefined
  vmName?: string | undefined
  repositoryId?: string | undefined
  status?: BackupState | undefined
  backupType?: BackupType | undefined
  /** Created at or after. */
  from?: Date | undefined
  /** Created before. */
  to?: Date | undefined
}

export type BackupJob = Selectable<BackupJobsTable>

export interface ListedBackup extends BackupJob {
  repository_name: string
  disk_count: number
}

export async function listBackups(catalog: Catalog, filter: BackupFilter, page: Page<NewestFirst>): Promise<ListedBackup[]> {
  const keys = pageNewestFirst(filtered(catalog, filter).select('id'), 'created_at', page)
  // Keys first, rows after: from an index alone the optimizer starts at the cursor; asked for whole rows it walks there from the newest.
  const jobs = await catalog
    .selectFrom(keys.as('page'))
    .innerJoin('backup_jobs', 'backup_jobs.id', 'page.id')
    .selectAll('backup_jobs')
    .orderBy('backup_jobs.created_at', 'desc')
    .orderBy('backup_jobs.id', 'desc')
    .execute()
  const [names, disks] = await Promise.all([
    repositoryNames(catalog, [...new Set(jobs.map((job) => job.repository_id))]),
    diskCounts(
      catalog,
      jobs.map((job) => job.id),
    ),
  ])
  return jobs.map((job) => ({ ...job, repository_name: names.get(job.repository_id) ?? '', disk_count: disks.get(job.id) ?? 0 }))
}

/** How many match: all, or counted no further than `most`, which stays quick in a catalog of any size. */
export async function countBackups(catalog: Catalog, filter: BackupFilter, most?: number): Promise<number> {
  return countUpTo(catalog, filtered(catalog, filter), most)
}

async function diskCounts(catalog: Catalog, backupIds: readonly string[]): Promise<Map<string, number>> {
  if (backupIds.length === 0) return new Map()
  const rows = await catalog
    .selectFrom('backup_disks')
    .select((row) => ['backup_job_id', row.fn.countAll<number>().as('disks')])
    .where('backup_job_id', 'in', backupIds)
    .groupBy('backup_job_id')
    .execute()
  return new Map(rows.map((row) => [row.backup_job_id, row.disks]))
}

function filtered(catalog: Catalog, filter: BackupFilter) {
  return catalog
    .selectFrom('backup_jobs')
    .$if(filter.vmContextId !== undefined, (query) => query.where('vm_context_id', '=', filter.vmContextId!))
    .$if(filter.vmName !== undefined, (query) => query.where('vm_name', '=', filter.vmName!))
    .$if(filter.repositoryId !== undefined, (query) => query.where('repository_id', '=', filter.repositoryId!))
    .$if(filter.status !== undefined, (query) => query.where('status', '=', filter.status!))
    .$if(filter.backupType !== undefined, (query) => query.where('backup_type', '=', filter.backupType!))
    .$if(filter.from !== undefined, (query) => query.where('created_at', '>=', filter.from!))
    .$if(filter.to !== undefined, (query) => query.where('created_at', '<', filter.to!))
}
