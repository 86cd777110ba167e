/** Keyset paging: "the rows after this one", which costs the same on the first page and on the last of a million rows. */

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
