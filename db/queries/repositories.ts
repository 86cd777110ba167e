/** Reading repositories, and switching one on or off. */
import type { Selectable } from 'kysely'
import type { Catalog } from '../client.ts'
import type { BackupRepositoriesTable } from '../schema.ts'
import { pageByName } from './page.ts'
import type { ByName, Page } from './page.ts'

export type BackupRepository = Selectable<BackupRepositoriesTable>

export interface RepositoryFilter {
  enabled?: boolean | undefined
}

/** Name order, then id. */
export async function listRepositories(
  catalog: Catalog,
  filter: RepositoryFilter,
  page: Page<ByName>,
): Promise<BackupRepository[]> {
  return pageByName(filtered(catalog, filter).selectAll(), { name: 'name', id: 'id' }, page).execute()
}

export async function countRepositories(catalog: Catalog, filter: RepositoryFilter): Promise<number> {
  const row = await filtered(catalog, filter)
    .select((row) => row.fn.countAll<number>().as('total'))
    .executeTakeFirstOrThrow()
  return row.total
}

export async function findRepository(catalog: Catalog, id: string): Promise<BackupRepository | undefined> {
  return catalog.selectFrom('backup_repositories').selectAll().where('id', '=', id).executeTakeFirst()
}

export async function findRepositoryByName(catalog: Catalog, name: string): Promise<BackupRepository | undefined> {
  return catalog.selectFrom('backup_repositories').selectAll().where('name', '=', name).executeTakeFirst()
}

/** Names by id, for lists that show where a backup lies. */
export async function repositoryNames(catalog: Catalog, ids: readonly string[]): Promise<Map<string, string>> {
  if (ids.length === 0) return new Map()
  const rows = await catalog.selectFrom('backup_repositories').select(['id', 'name']).where('id', 'in', ids).execute()
  return new Map(rows.map((row) => [row.id, row.name]))
}

/** Every repository in a folder of that host. There are few: an administrator made each by hand. */
export async function localRepositoriesOf(catalog: Catalog, hostId: string): Promise<BackupRepository[]> {
  return catalog
    .selectFrom('backup_repositories')
    .selectAll()
    .where('host_id', '=', hostId)
    .where('repository_type', '=', 'local')
    .execute()
}

export async function setRepositoryEnabled(catalog: Catalog, id: string, enabled: boolean): Promise<void> {
  await catalog.updateTable('backup_repositories').set({ enabled }).where('id', '=', id).execute()
}

function filtered(catalog: Catalog, filter: RepositoryFilter) {
  return catalog
    .selectFrom('backup_repositories')
    .$if(filter.enabled !== undefined, (query) => query.where('enabled', '=', filter.enabled!))
}
