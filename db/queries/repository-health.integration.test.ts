import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { recordLook, listRepositoriesToLookAt } from './repository-health.ts'
import type { Catalog } from '../client.ts'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { countRows, insertRepository } from '../../test/catalog-rows.ts'
import type { StorageLook } from '../../domain/storage-health.ts'
import type { StorageInfo } from '../../domain/storage.ts'
import { acknowledgeAlert, alertState, listAlerts } from './alerts.ts'

let database: TestCatalog
let catalog: Catalog

beforeAll(async () => {
  database = await createTestCatalog()
  catalog = database.catalog
})
beforeEach(async () => {
  await catalog.deleteFrom('backup_repositories').execute()
  await insertRepository(catalog, 'repo')
  await insertRepository(catalog, 'other')
})
afterAll(() => database?.drop())

const at = (minute: number) => new Date(Date.UTC(2026, 1, 1, 12, minute))

const seen = (percent: number, more: Partial<StorageInfo> = {}): StorageLook => ({
  reached: true,
  storage: {
    totalBytes: 10_500,
    usedBytes: percent * 100,
    availableBytes: 10_000 - percent * 100,
    totalInodes: 100,
    usedInodes: 1,
    writable: true,
    ...more,
  },
  latencyMs: 12.6,
})
const away: StorageLook = { reached: false, code: 'REPO_UNAVAILABLE', message: 'The share did not answer.', latencyMs: 10_000 }

const rowOf = (id = 'repo') =>
  catalog.selectFrom('backup_repositories').selectAll().where('id', '=', id).executeTakeFirstOrThrow()

/** Kind and state of each alert of the repository, oldest first. */
async function alertsOf(id = 'repo'): Promise<string[]> {
  const rows = await listAlerts(catalog, { repositoryId: id }, { limit: 100 })
  return rows.toReversed().map((row) => `${row.kind} ${alertState(row)}`)
}

test('a first look fills the row and leaves a sample', async () => {
  expect(await recordLook(catalog, 'repo', seen(40), at(0))).toEqual({
    repositoryId: 'repo',
    name: 'repo',
    health: 'healthy',
    earlierHealth: 'unknown',
    message: null,
    opened: [],
    resolved: [],
  })
  expect(await rowOf()).toMatchObject({
    total_size_bytes: 10_500,
    used_size_bytes: 4_000,
    available_size_bytes: 6_000,
    total_inodes: 100,
    used_inodes: 1,
    latency_ms: 13,
    last_check_at: at(0),
    health: 'healthy',
    health_message: null,
    health_since: at(0),
    stopped_at: null,
    enabled: true,
  })
  expect(await catalog.selectFrom('repository_samples').selectAll().execute()).toEqual([
    {
      repository_id: 'repo',
      sampled_at: at(0),
      total_bytes: 10_500,
      used_bytes: 4_000,
      available_bytes: 6_000,
      used_inodes: 1,
      total_inodes: 100,
      latency_ms: 13,
      health: 'healthy',
    },
  ])
})

describe('the crossings', () => {
  test('of 90 and 95 per cent, up and down: exactly these alerts and states', async () => {
    const steps: [percent: number, health: string, stopped: Date | null, alerts: string[]][] = [
      [89.9, 'healthy', null, []],
      [90, 'warning', null, ['storage_warning open']],
      [94.9, 'warning', null, ['storage_warning open']],
      [95, 'critical', at(3), ['storage_warning resolved', 'storage_critical open']],
      [99, 'critical', at(3), ['storage_warning resolved', 'storage_critical open']],
      [94, 'critical', at(3), ['storage_warning resolved', 'storage_critical open']],
      [90, 'critical', at(3), ['storage_warning resolved', 'storage_critical open']],
      [89.9, 'healthy', null, ['storage_warning resolved', 'storage_critical resolved']],
      // Within the hour it is the same warning.
      [91, 'warning', null, ['storage_warning open', 'storage_critical resolved']],
      [50, 'healthy', null, ['storage_warning resolved', 'storage_critical resolved']],
    ]
    for (const [minute, [percent, health, stopped, alerts]] of steps.entries()) {
      await recordLook(catalog, 'repo', seen(percent), at(minute))
      const row = await rowOf()
      expect([percent, row.health, row.stopped_at, await alertsOf()]).toEqual([percent, health, stopped, alerts])
      expect(row.enabled).toBe(true)
    }
    expect(await alertsOf('other')).toEqual([])
  })

  test('say what changed once, and since when it is so', async () => {
    expect(await recordLook(catalog, 'repo', seen(96), at(0))).toMatchObject({ opened: ['storage_critical'], resolved: [] })
    expect(await recordLook(catalog, 'repo', seen(97), at(5))).toMatchObject({ opened: [], resolved: [] })
    expect(await rowOf()).toMatchObject({ health_since: at(0), last_check_at: at(5) })
    expect((await rowOf()).health_message).toMatch(/^97 % of the space/)
    expect(await recordLook(catalog, 'repo', seen(1), at(10))).toMatchObject({
      health: 'healthy',
      earlierHealth: 'critical',
      opened: [],
      resolved: ['storage_critical'],
    })
    expect(await rowOf()).toMatchObject({ health_since: at(10), health_message: null })
  })

  test('with thresholds of its own', async () => {
    await catalog
      .updateTable('backup_repositories')
      .set({ warning_percent: 50, critical_percent: 60 })
      .where('id', '=', 'repo')
      .execute()
    await recordLook(catalog, 'repo', seen(61), at(0))
    expect(await rowOf()).toMatchObject({ health: 'critical', stopped_at: at(0) })
    await recordLook(catalog, 'repo', seen(49), at(1))
    expect(await rowOf()).toMatchObject({ health: 'healthy', stopped_at: null })
  })

  test('leave alone what an administrator switched off', async () => {
    await catalog.updateTable('backup_repositories').set({ enabled: false }).where('id', '=', 'repo').execute()
    for (const [minute, percent] of [10, 96, 10].entries()) {
      await recordLook(catalog, 'repo', seen(percent), at(minute))
      expect((await rowOf()).enabled).toBe(false)
    }
    expect((await rowOf()).stopped_at).toBeNull()
  })
})

test('a hundred looks at a full disk open one alert, which stays acknowledged', async () => {
  for (let minute = 0; minute < 50; minute++) await recordLook(catalog, 'repo', seen(96), at(minute))
  const [alert] = await listAlerts(catalog, {}, { limit: 1 })
  await acknowledgeAlert(catalog, alert!.id, { by: 'anna', at: at(50) })
  for (let minute = 50; minute < 100; minute++) await recordLook(catalog, 'repo', seen(96), at(minute))
  expect(await listAlerts(catalog, {}, { limit: 9 })).toMatchObject([
    { id: alert!.id, acknowledged_by: 'anna', opened_at: at(0), seen_at: at(99), details: { used_percentage: 96 } },
  ])
})

test('a repository around the threshold warns once, and whoever knows of it is not told again', async () => {
  await recordLook(catalog, 'repo', seen(90), at(0))
  const [alert] = await listAlerts(catalog, {}, { limit: 1 })
  await acknowledgeAlert(catalog, alert!.id, { by: 'anna', at: at(1) })
  for (let minute = 5; minute <= 100; minute += 5) await recordLook(catalog, 'repo', seen(minute % 2 ? 89.9 : 90), at(minute))
  expect(await listAlerts(catalog, {}, { limit: 9 })).toMatchObject([
    { id: alert!.id, acknowledged_by: 'anna', opened_at: at(0), seen_at: at(100), resolved_at: null },
  ])
  await recordLook(catalog, 'repo', seen(50), at(105))
  await recordLook(catalog, 'repo', seen(90), at(166))
  expect(await alertsOf(), 'after an hour it is another one').toEqual(['storage_warning resolved', 'storage_warning open'])
})

test('ten looks at the same time open one alert, and all are recorded', async () => {
  const looks = await Promise.all(Array.from({ length: 10 }, () => recordLook(catalog, 'repo', seen(96), at(0))))
  expect(looks.filter((look) => look?.opened.length === 1)).toHaveLength(1)
  expect(await alertsOf()).toEqual(['storage_critical open'])
  expect(await countRows(catalog, 'repository_samples')).toBe(1)
})

describe('a repository that goes away', () => {
  test('is offline at once; what was known of its space stays, and so do its other alerts', async () => {
    await recordLook(catalog, 'repo', seen(92), at(0))
    await recordLook(catalog, 'repo', away, at(5))
    await recordLook(catalog, 'repo', away, at(10))
    expect(await rowOf()).toMatchObject({
      health: 'offline',
      health_message: 'The share did not answer.',
      health_since: at(5),
      last_check_at: at(10),
      used_size_bytes: 9_200,
      latency_ms: null,
      stopped_at: null,
    })
    expect(await alertsOf()).toEqual(['storage_warning open', 'repository_offline open'])
    expect(await countRows(catalog, 'repository_samples'), 'an unknown is no sample').toBe(1)
    await recordLook(catalog, 'repo', seen(92), at(15))
    expect(await rowOf()).toMatchObject({ health: 'warning', health_since: at(15) })
    expect(await alertsOf()).toEqual(['storage_warning open', 'repository_offline resolved'])
  })

  test('while it was stopped stays stopped until somebody sees that there is room', async () => {
    await recordLook(catalog, 'repo', seen(96), at(0))
    await recordLook(catalog, 'repo', away, at(5))
    expect(await rowOf()).toMatchObject({ health: 'offline', stopped_at: at(0) })
    await recordLook(catalog, 'repo', seen(10), at(10))
    expect(await rowOf()).toMatchObject({ health: 'healthy', stopped_at: null })
    expect(await alertsOf()).toEqual(['storage_critical resolved', 'repository_offline resolved'])
  })

  test('for good is no longer recorded, and takes its alerts and samples along', async () => {
    await recordLook(catalog, 'repo', seen(96), at(0))
    await catalog.deleteFrom('backup_repositories').where('id', '=', 'repo').execute()
    expect(await recordLook(catalog, 'repo', seen(96), at(5))).toBeNull()
    expect([await countRows(catalog, 'alerts'), await countRows(catalog, 'repository_samples')]).toEqual([0, 0])
  })
})

test('a flip to read-only stops new backups until it takes files again', async () => {
  await recordLook(catalog, 'repo', seen(40, { writable: false }), at(0))
  expect(await rowOf()).toMatchObject({ health: 'critical', stopped_at: at(0) })
  expect(await alertsOf()).toEqual(['repository_read_only open'])
  await recordLook(catalog, 'repo', seen(40), at(5))
  expect(await rowOf()).toMatchObject({ health: 'healthy', stopped_at: null })
  expect(await alertsOf()).toEqual(['repository_read_only resolved'])
})

test('everything is looked at but shares that are switched off, which a look would mount; asked for, those too', async () => {
  const off = { enabled: false }
  await catalog.updateTable('backup_repositories').set(off).where('id', '=', 'repo').execute()
  await insertRepository(catalog, 'share')
  await catalog
    .updateTable('backup_repositories')
    .set({ ...off, repository_type: 'nfs' })
    .where('id', '=', 'share')
    .execute()
  expect(await listRepositoriesToLookAt(catalog, null)).toEqual([
    { id: 'other', type: 'local', config: { path: '/srv/other' }, credentialsId: null, hostId: 'local' },
    { id: 'repo', type: 'local', config: { path: '/srv/repo' }, credentialsId: null, hostId: 'local' },
  ])
  expect(await listRepositoriesToLookAt(catalog, 'share')).toMatchObject([{ id: 'share', type: 'nfs' }])
  expect(await listRepositoriesToLookAt(catalog, 'none')).toEqual([])
})
