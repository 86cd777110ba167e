/** Keyset paging: "the rows after this one", which costs the same on the first page and on the last of a million rows. */
import { sql } from 'kysely'
import type { SelectQueryBuilder } from 'kysely'
import type { Catalog } from '../client.ts'
import type { Database } from '../schema.ts'

export interface Page<Position> {
  /** Most rows to return. */
  limit: number
  /** The last row of the page before; absent for the first page. */
  after?: Position | undefined
}

/** Where a row stands in a list that is newest first. */
export interface NewestFirst {
  createdAt: Date
  id: string
}

/** Where a row stands in a list by name. */
export interface ByName {
  name: string
  id: string
}

/** One page in the order of name, then id. `columns`: what these two are called here; an index on them makes it cheap. */
export function pageByName<Tables, Table extends keyof Tables, Row>(
  query: SelectQueryBuilder<Tables, Table, Row>,
  columns: { name: string; id: string },
  { after, limit }: Page<ByName>,
): SelectQueryBuilder<Tables, Table, Row> {
  const [name, id] = [sql.ref(columns.name), sql.ref(columns.id)]
  return query
    .$if(after !== undefined, (first) =>
      first.where(sql<boolean>`${name} >= ${after!.name} and (${name} > ${after!.name} or ${id} > ${after!.id})`),
    )
    .orderBy(name)
    .orderBy(id)
    .limit(limit)
}

/** One page, newest first. `time`: the column; ties are in the order of `id`. An index on the two makes it cheap. */
export function pageNewestFirst<Tables, Table extends keyof Tables, Row>(
  query: SelectQueryBuilder<Tables, Table, Row>,
  time: string,
  { after, limit }: Page<{ createdAt: Date; id: string | number }>,
): SelectQueryBuilder<Tables, Table, Row> {
  const [at, id] = [sql.ref(time), sql.ref('id')]
  return query
    .$if(after !== undefined, (first) =>
      first.where(sql<boolean>`${at} <= ${after!.createdAt} and (${at} < ${after!.createdAt} or ${id} < ${after!.id})`),
    )
    .orderBy(at, 'desc')
    .orderBy(id, 'desc')
    .limit(limit)
}

/** How many rows match: all, or counted no further than `most`, which stays quick in a table of any size. */
export async function countUpTo<Table extends keyof Database, Row>(
  catalog: Catalog,
  matching: SelectQueryBuilder<Database, Table, Row>,
  most: number | undefined,
): Promise<number> {
  const total = sql<number>`count(*)`.as('total')
  // Counting a bounded part needs a derived table, which for everything would cost several times the plain count.
  const some = matching.select(sql.ref('id').as('id')).limit(most ?? 0)
  const row = await (most === undefined
    ? matching.select(total).executeTakeFirstOrThrow()
    : catalog.selectFrom(some.as('some')).select(total).executeTakeFirstOrThrow())
  return row.total
}
