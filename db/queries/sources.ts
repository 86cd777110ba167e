/** Source connections. */
import type { Selectable } from 'kysely'
import type { Catalog } from '../client.ts'
import type { SourcesTable } from '../schema.ts'

export type SourceRow = Selectable<SourcesTable>

export async function findSource(catalog: Catalog, id: string): Promise<SourceRow | undefined> {
  return catalog.selectFrom('sources').selectAll().where('id', '=', id).executeTakeFirst()
}
