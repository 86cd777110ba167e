/** Reading repositories. */
import type { ExpressionBuilder, Selectable } from 'kysely'
import type { RepositoryType } from '../../domain/backup.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { HealthState } from '../../domain/storage-health.ts'
import type { Catalog } from '../client.ts'
import type { BackupRepositoriesTable, Database } from '../schema.ts'
import { pageByName } from './page.ts'
import type { ByName, Page } from './page.ts'

export type BackupRepository = Selectable<BackupRepositoriesTable>

export interface RepositoryFilter {
  enabled?: boolean | undefined
  type?: RepositoryType | undefined
  /** As it is shown: see `healthNow` in domain/storage-health.ts. */
  health?: { state: HealthState; staleBefore: Date } | undefined
  hostId?: string | undefined
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

/** `REPO_NOT_FOUND` */
export async function requireRepository(catalog: Catalog, id: string): Promise<BackupRepository> {
  const repository = await findRepository(catalog, id)
  if (repository) return repository
  throw repositoryNotFound(id)
}

export function repositoryNotFound(repositoryId: string): HoldfastError {
  return new HoldfastError('REPO_NOT_FOUND', 'There is no such repository: GET /repositories lists them.', {
    details: { repository_id: repositoryId },
  })
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

function filtered(catalog: Catalog, filter: RepositoryFilter) {
  return catalog
    .selectFrom('backup_repositories')
    .$if(filter.enabled !== undefined, (query) => query.where('enabled', '=', filter.enabled!))
    .$if(filter.type !== undefined, (query) => query.where('repository_type', '=', filter.type!))
    .$if(filter.health !== undefined, (query) => query.where((row) => hasHealth(row, filter.health!)))
    .$if(filter.hostId !== undefined, (query) => query.where('host_id', '=', filter.hostId!))
}

function hasHealth(
  row: ExpressionBuilder<Database, 'backup_repositories'>,
  { state, staleBefore }: NonNullable<RepositoryFilter['health']>,
) {
  const isState = row('health', '=', state)
  if (state === 'unknown') {
    return row.or([isState, row.and([row('health', 'in', ['healthy', 'warning']), row('last_check_at', '<', staleBefore)])])
  }
  if (state !== 'healthy' && state !== 'warning') return isState
  return row.and([isState, row.or([row('last_check_at', 'is', null), row('last_check_at', '>=', staleBefore)])])
}
