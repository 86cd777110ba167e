/** Reading source connections. */
import type { Selectable } from 'kysely'
import type { SourceType } from '../../domain/backup.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { JsonObject } from '../../domain/errors.ts'
import type { Catalog } from '../client.ts'
import type { SourcesTable, SourceState } from '../schema.ts'
import { pageByName } from './page.ts'
import type { ByName, Page } from './page.ts'

export type SourceRow = Selectable<SourcesTable>

export interface SourceFilter {
  sourceType?: SourceType | undefined
  hostId?: string | undefined
  status?: SourceState | undefined
}

/** Name order, then id. */
export async function listSources(catalog: Catalog, filter: SourceFilter, page: Page<ByName>): Promise<SourceRow[]> {
  return pageByName(filtered(catalog, filter).selectAll(), { name: 'name', id: 'id' }, page).execute()
}

export async function countSources(catalog: Catalog, filter: SourceFilter): Promise<number> {
  const row = await filtered(catalog, filter)
    .select((row) => row.fn.countAll<number>().as('total'))
    .executeTakeFirstOrThrow()
  return row.total
}

export async function findSource(catalog: Catalog, id: string): Promise<SourceRow | undefined> {
  return catalog.selectFrom('sources').selectAll().where('id', '=', id).executeTakeFirst()
}

/** `SOURCE_CONNECTION_NOT_FOUND` */
export async function requireSource(catalog: Catalog, id: string): Promise<SourceRow> {
  const source = await findSource(catalog, id)
  if (source) return source
  throw sourceNotFound(id)
}

export function sourceNotFound(sourceId: string): HoldfastError {
  return new HoldfastError('SOURCE_CONNECTION_NOT_FOUND', 'There is no such source: GET /sources lists them.', {
    details: { source_id: sourceId },
  })
}

export async function sourcesOfHost(catalog: Catalog, hostId: string): Promise<SourceRow[]> {
  return catalog.selectFrom('sources').selectAll().where('host_id', '=', hostId).orderBy('id').execute()
}

/** Names by id, for VMs that show where they come from. */
export async function sourceNames(catalog: Catalog, ids: readonly string[]): Promise<Map<string, string>> {
  if (ids.length === 0) return new Map()
  const rows = await catalog.selectFrom('sources').select(['id', 'name']).where('id', 'in', ids).execute()
  return new Map(rows.map((row) => [row.id, row.name]))
}

/** How many VM contexts each source has, vanished ones included; a source without any is absent. */
export async function vmCountsOfSources(catalog: Catalog, ids: readonly string[]): Promise<Map<string, number>> {
  if (ids.length === 0) return new Map()
  const rows = await catalog
    .selectFrom('vm_contexts')
    .select((row) => ['source_id', row.fn.countAll<number>().as('vms')])
    .where('source_id', 'in', ids)
    .groupBy('source_id')
    .execute()
  return new Map(rows.map((row) => [row.source_id ?? '', row.vms]))
}

export interface SourcePlace {
  sourceId: string
  name: string
  hostId: string
  sourceType: SourceType
  config: JsonObject
}

/** Another source that has the name, or that leads to the same platform from the same host; there are few. */
export async function findConflictingSource(
  catalog: Catalog,
  place: SourcePlace,
): Promise<{ id: string; name: string; what: 'name' | 'platform' } | undefined> {
  const others = await catalog
    .selectFrom('sources')
    .select(['id', 'name', 'source_type', 'host_id', 'config'])
    .where('id', '<>', place.sourceId)
    .execute()
  const namesake = others.find((other) => other.name === place.name)
  if (namesake) return { id: namesake.id, name: namesake.name, what: 'name' }
  const same = others.find(
    (other) =>
      other.host_id === place.hostId && other.source_type === place.sourceType && other.config['uri'] === place.config['uri'],
  )
  return same && { id: same.id, name: same.name, what: 'platform' }
}

function filtered(catalog: Catalog, filter: SourceFilter) {
  return catalog
    .selectFrom('sources')
    .$if(filter.sourceType !== undefined, (query) => query.where('source_type', '=', filter.sourceType!))
    .$if(filter.hostId !== undefined, (query) => query.where('host_id', '=', filter.hostId!))
    .$if(filter.status !== undefined, (query) => query.where('status', '=', filter.status!))
}
