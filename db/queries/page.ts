/** Keyset paging: "the rows after this one", which costs the same on the first page and on the last of a million rows. */
import { sql } from 'kysely'
import type { SelectQueryBuilder } from 'kysely'

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
