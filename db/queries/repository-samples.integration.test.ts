import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { StorageLook } from '../../domain/storage-health.ts'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { countRows, insertRepository } from '../../test/catalog-rows.ts'
import type { Catalog } from '../client.ts'
import { TREND_POINTS_MAX, insertSample, pruneSamples, readTrend } from './repository-samples.ts'

let database: TestCatalog
let catalog: Catalog

beforeAll(async () => {
  database = await createTestCatalog()
  catalog = database.catalog
  await insertRepository(catalog, 'repo')
  await insertRepository(catalog, 'other')
})
beforeEach(() => catalog.deleteFrom('repository_samples').execute())
afterAll(() => database?.drop())

const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS
const now = new Date(Date.UTC(2026, 5, 1, 12))
const ago = (ms: number) => new Date(now.getTime() - ms)

const look: StorageLook & { reached: true } = {
  reached: true,
  storage: { totalBytes: 100, usedBytes: 40, availableBytes: 60, totalInodes: 0, usedInodes: 0, writable: true },
  latencyMs: 3,
}

/** One sample every five minutes for so long; `used_bytes` counts them. */
async function sampled(repositoryId: string, from: Date, minutes: number): Promise<void> {
  const rows = Array.from({ length: Math.ceil(minutes / 5) }, (_, index) => ({
    repository_id: repositoryId,
    sampled_at: new Date(from.getTime() + index * 5 * MINUTE_MS),
    total_bytes: 1_000_000,
    used_bytes: index,
    available_bytes: 1_000_000 - index,
    used_inodes: 0,
    total_inodes: 0,
    latency_ms: 1,
    health: 'healthy' as const,
  }))
  for (let first = 0; first < rows.length; first += 1000) {
    await catalog
      .insertInto('repository_samples')
      .values(rows.slice(first, first + 1000))
      .execute()
  }
}

test('looks in a row leave one sample a minute', async () => {
  for (const seconds of [0, 1, 30, 59, 60, 61, 125]) {
    const at = new Date(now.getTime() + seconds * 1000)
    await insertSample(catalog, 'repo', { look, health: 'healthy', at })
  }
  const rows = await catalog.selectFrom('repository_samples').select('sampled_at').orderBy('sampled_at').execute()
  expect(rows.map((row) => (row.sampled_at.getTime() - now.getTime()) / 1000)).toEqual([0, 60, 125])
})

describe('what is old', () => {
  test('is thinned out to the first of each hour after a week, and goes after 400 days', async () => {
    await sampled('repo', ago(8 * DAY_MS), 24 * 60)
    await sampled('other', ago(8 * DAY_MS), 60)
    await sampled('repo', ago(DAY_MS), 60)
    await sampled('repo', ago(401 * DAY_MS), 60)
    await pruneSamples(catalog, now)
    const hours = await timesBefore('repo', ago(7 * DAY_MS))
    expect(hours).toEqual(Array.from({ length: 24 }, (_, hour) => ago(8 * DAY_MS - hour * 60 * MINUTE_MS)))
    expect(await countOf('repo', ago(2 * DAY_MS))).toBe(12)
    expect(await countOf('other', ago(500 * DAY_MS))).toBe(1)
    const before = await countRows(catalog, 'repository_samples')
    await pruneSamples(catalog, now)
    expect(await countRows(catalog, 'repository_samples'), 'again').toBe(before)
  })
})

async function timesBefore(repositoryId: string, before: Date): Promise<Date[]> {
  const rows = await catalog
    .selectFrom('repository_samples')
    .select('sampled_at')
    .where('repository_id', '=', repositoryId)
    .where('sampled_at', '<', before)
    .orderBy('sampled_at')
    .execute()
  return rows.map((row) => row.sampled_at)
}

async function countOf(repositoryId: string, from: Date): Promise<number> {
  const row = await catalog
    .selectFrom('repository_samples')
    .select((make) => make.fn.countAll<number>().as('count'))
    .where('repository_id', '=', repositoryId)
    .where('sampled_at', '>=', from)
    .executeTakeFirstOrThrow()
  return row.count
}

describe('a trend', () => {
  test('has every sample of a short time, of this repository alone, oldest first', async () => {
    await sampled('repo', ago(60 * MINUTE_MS), 60)
    await sampled('other', ago(60 * MINUTE_MS), 60)
    const trend = await readTrend(catalog, 'repo', { from: ago(DAY_MS), to: now })
    expect(trend.map((row) => row.used_bytes)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    expect(await readTrend(catalog, 'repo', { from: ago(10 * MINUTE_MS), to: ago(5 * MINUTE_MS) })).toHaveLength(2)
  })

  test.each([1, 7, 30])('of %i days has a few hundred points, the newest among them', async (days) => {
    await sampled('repo', ago(days * DAY_MS), days * 24 * 60)
    const trend = await readTrend(catalog, 'repo', { from: ago(days * DAY_MS), to: now })
    expect(trend.length).toBeGreaterThan(TREND_POINTS_MAX / 2)
    expect(trend.length).toBeLessThanOrEqual(TREND_POINTS_MAX)
    expect(trend.at(-1)?.used_bytes).toBe(days * 288 - 1)
    const times = trend.map((row) => row.sampled_at.getTime())
    expect(times).toEqual(times.toSorted((one, other) => one - other))
  })
})
