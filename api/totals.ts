/**
 * Totals of lists. Up to {@link EXACT_MOST} rows a total is counted afresh; beyond that counting would cost more than the page,
 * so the last count is given while a new one runs behind it.
 */

/** Larger totals may be as old as {@link STALE_AFTER_MS} plus the time of one count. */
export const EXACT_MOST = 10_000
/** A large total older than this is counted again, behind the answer. */
export const STALE_AFTER_MS = 10_000
/** A large total older than this is no longer given: the answer waits for the count. */
export const USELESS_AFTER_MS = 300_000
const REMEMBERED_MAX = 500

interface LargeTotal {
  value: number
  countedAtMs: number
  recount: Promise<number> | undefined
}

/** `name` and `filter` say which list; `count` counts all rows, or up to `most`. */
export type TotalOf = (name: string, filter: object, count: (most?: number) => Promise<number>) => Promise<number>

export function createTotals(now: () => number = Date.now): TotalOf {
  const large = new Map<string, LargeTotal>()

  return async (name, filter, count) => {
    const key = JSON.stringify([name, filter])
    const known = large.get(key)
    const ageMs = known ? now() - known.countedAtMs : Number.POSITIVE_INFINITY
    if (known && ageMs < STALE_AFTER_MS) return known.value
    if (known && ageMs < USELESS_AFTER_MS) {
      // A failing recount leaves the old total standing; the page itself reports an absent catalog.
      known.recount ??= recount(key, count)
        .catch(() => known.value)
        .finally(() => (known.recount = undefined))
      return known.value
    }
    const bounded = await count(EXACT_MOST + 1)
    return bounded <= EXACT_MOST ? bounded : recount(key, count)
  }

  async function recount(key: string, count: (most?: number) => Promise<number>): Promise<number> {
    const value = await count()
    large.delete(key)
    if (value > EXACT_MOST) large.set(key, { value, countedAtMs: now(), recount: undefined })
    if (large.size > REMEMBERED_MAX) large.delete(large.keys().next().value ?? '')
    return value
  }
}
