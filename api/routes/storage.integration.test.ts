import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { recordLook } from '../../db/queries/repository-health.ts'
import type { StorageLook } from '../../domain/storage-health.ts'
import type { StorageInfo } from '../../domain/storage.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'

let api: TestApi

/** The repositories of the documented example. */
const documented = [
  { id: 'repo-local-1638547200', name: 'Primary Local Storage', type: 'local', total: 10737418240000, used: 4294967296000 },
  { id: 'repo-nfs-1638547300', name: 'Secondary NFS Storage', type: 'nfs', total: 5368709120000, used: 1073741824000 },
  { id: 'repo-cifs-1638547400', name: 'Tertiary CIFS Storage', type: 'cifs', total: 2147483648000, used: 0 },
] as const

beforeAll(async () => {
  api = await createTestApi()
})
beforeEach(async () => {
  api.operations.reset()
  await api.catalog.deleteFrom('backup_repositories').execute()
  for (const { id, name, type, total, used } of documented) {
    const row = { id, name, repository_type: type, config: '{}', host_id: 'local', enabled: type !== 'cifs' }
    await api.catalog.insertInto('backup_repositories').values(row).execute()
    await look(id, seen(total, used))
  }
})
afterAll(() => api?.drop())

const seen = (totalBytes: number, usedBytes: number, more: Partial<StorageInfo> = {}): StorageLook => ({
  reached: true,
  storage: {
    totalBytes,
    usedBytes,
    availableBytes: totalBytes - usedBytes,
    totalInodes: 1000,
    usedInodes: 10,
    writable: true,
    ...more,
  },
  latencyMs: 7,
})
const look = (id: string, found: StorageLook, at = api.clock.now) => recordLook(api.catalog, id, found, at)
const [local, nfs] = documented
const away = { code: 'CONNECTION_FAILED', message: 'failed to connect to NFS server: connection timeout' }

describe('the summary', () => {
  test('is the documented one, and more', async () => {
    const { status, body } = await api.call('GET', '/repositories/storage-summary', { as: 'viewer' })
    expect(status).toBe(200)
    expect(body).toMatchObject({
      success: true,
      summary: {
        total_repositories: 3,
        enabled_repositories: 2,
        total_capacity_bytes: 18253611008000,
        total_used_bytes: 5368709120000,
        total_available_bytes: 12884901888000,
        overall_used_percentage: 29.4,
        health: { unknown: 0, healthy: 3, warning: 0, critical: 0, offline: 0 },
        unresolved_alerts: 0,
        repositories: [
          { id: local.id, name: local.name, type: 'local', used_percentage: 40, health_status: 'healthy', enabled: true },
          { id: nfs.id, name: nfs.name, type: 'nfs', used_percentage: 20, health_status: 'healthy', enabled: true },
          { name: 'Tertiary CIFS Storage', type: 'cifs', used_percentage: 0, health_status: 'healthy', enabled: false },
        ],
      },
    })
    expect(api.operations.calls, 'no disk was asked').toEqual([])
  })

  test('counts what is not well', async () => {
    await look(local.id, seen(100, 96))
    await look(nfs.id, { reached: false, ...away, latencyMs: 10_000 })
    const { body } = await api.call('GET', '/repositories/storage-summary')
    expect(body).toMatchObject({
      summary: { health: { healthy: 1, critical: 1, offline: 1 }, unresolved_alerts: 2, total_repositories: 3 },
    })
  })

  test('claims nothing that nobody has looked at for long', async () => {
    await look(nfs.id, seen(100, 96))
    const then = api.clock.now
    api.clock.now = new Date(then.getTime() + 3 * 24 * 3_600_000)
    const { body } = await api.call('GET', '/repositories/storage-summary')
    api.clock.now = then
    expect(body).toMatchObject({
      summary: {
        health: { unknown: 2, healthy: 0, critical: 1 },
        repositories: [
          { id: local.id, health_status: 'unknown', health_message: expect.stringContaining(then.toISOString()) },
          { id: nfs.id, health_status: 'critical' },
          { health_status: 'unknown', health_message: expect.stringContaining('switched off') },
        ],
      },
    })
  })

  test('of nothing is empty', async () => {
    await api.catalog.deleteFrom('backup_repositories').execute()
    const { body } = await api.call('GET', '/repositories/storage-summary')
    expect(body).toMatchObject({ summary: { total_repositories: 0, overall_used_percentage: 0, repositories: [] } })
  })
})

describe('refreshing', () => {
  test('answers as documented', async () => {
    api.operations.answer({ refreshStorage: async () => ({ refreshedCount: 3, failedCount: 0, offline: [] }) })
    const { status, body } = await api.call('POST', '/repositories/refresh-storage', { as: 'operator' })
    expect([status, body]).toEqual([
      200,
      {
        success: true,
        message: 'Storage information refreshed for 3 repositories',
        refreshed_count: 3,
        failed_count: 0,
        failures: [],
      },
    ])
  })

  test('says which did not answer, and why', async () => {
    const offline = [{ repositoryId: nfs.id, ...away }]
    api.operations.answer({ refreshStorage: async () => ({ refreshedCount: 2, failedCount: 1, offline }) })
    const { body } = await api.call('POST', '/repositories/refresh-storage')
    expect(body).toMatchObject({
      refreshed_count: 2,
      failed_count: 1,
      failures: [{ repository_id: nfs.id, error_code: 'CONNECTION_FAILED', error: away.message }],
    })
  })

  test.each([
    ['POST', '/repositories/refresh-storage'],
    ['GET', `/repositories/${local.id}/storage`],
  ])('%s %s is not for viewers: it makes movers work', async (method, path) => {
    expect((await api.call(method, path, { as: 'viewer' })).body.error_code).toBe('FORBIDDEN')
  })
})

describe('the storage of one', () => {
  test('is what a look finds now', async () => {
    const later = new Date(api.clock.now.getTime() + 60_000)
    api.operations.answer({
      async lookAtRepository({ repositoryId }) {
        await look(repositoryId, seen(10737418240000, 10200547328000), later)
        return { refreshedCount: 1, failedCount: 0, offline: [] }
      },
    })
    const { status, body } = await api.call('GET', `/repositories/${local.id}/storage`)
    expect([status, body]).toEqual([
      200,
      {
        success: true,
        repository_id: local.id,
        repository_name: local.name,
        health_status: 'critical',
        health_message: expect.stringMatching(/^95 % of the space is used/),
        stopped_at: later.toISOString(),
        storage: {
          total_bytes: 10737418240000,
          used_bytes: 10200547328000,
          available_bytes: 536870912000,
          used_percentage: 95,
          total_inodes: 1000,
          used_inodes: 10,
          used_inodes_percentage: 1,
          writable: true,
          latency_ms: 7,
          last_check_at: later.toISOString(),
        },
      },
    ])
    expect(api.operations.calls).toEqual([{ verb: 'lookAtRepository', args: [{ repositoryId: local.id, hostId: 'local' }] }])
  })

  test('says that it takes no files', async () => {
    await look(local.id, seen(100, 40, { writable: false }))
    const { body } = await api.call('GET', `/repositories/${local.id}/storage`)
    expect(body).toMatchObject({ health_status: 'critical', storage: { writable: false } })
  })

  test.each([
    ['CONNECTION_FAILED', 422, 'CONNECTION_FAILED'],
    ['REPO_UNAVAILABLE', 503, 'REPO_UNAVAILABLE'],
    ['MOVER_UNAVAILABLE', 503, 'MOVER_UNAVAILABLE'],
    ['INTERNAL', 503, 'REPO_UNAVAILABLE'],
  ])('that does not answer is %s: %i %s', async (code, expected, shown) => {
    const offline = [{ repositoryId: nfs.id, ...away, code }]
    api.operations.answer({ lookAtRepository: async () => ({ refreshedCount: 0, failedCount: 1, offline }) })
    const { status, body } = await api.call('GET', `/repositories/${nfs.id}/storage`)
    expect([status, body.error_code, body.error]).toEqual([expected, shown, away.message])
    expect(body).toMatchObject({ success: false, repository_id: nfs.id, health_status: 'offline' })
  })

  test.each(['storage', 'trend'])('of nobody: %s', async (what) => {
    const { status, body } = await api.call('GET', `/repositories/repo-none/${what}`)
    expect([status, body.error_code]).toEqual([404, 'REPO_NOT_FOUND'])
    expect(api.operations.calls).toEqual([])
  })
})

describe('a trend', () => {
  test('has the samples of the time asked for, how fast it grows and when it will be full', async () => {
    const { now } = api.clock
    await api.catalog.deleteFrom('repository_samples').execute()
    for (let day = 0; day <= 10; day++) {
      await look(local.id, seen(1000, 400 + 10 * day), new Date(now.getTime() - (10 - day) * 86_400_000))
    }
    const { status, body } = await api.call<{ samples: unknown[] }>('GET', `/repositories/${local.id}/trend?days=10`, {
      as: 'viewer',
    })
    expect(status).toBe(200)
    expect(body).toMatchObject({
      repository_id: local.id,
      from: '2026-02-19T12:00:00.000Z',
      to: '2026-03-01T12:00:00.000Z',
      growth_bytes_per_day: 10,
      full_at: '2026-04-20T12:00:00.000Z',
      based_on: { sample_count: 11, span_days: 10 },
    })
    expect(body.samples).toHaveLength(11)
    expect(body.samples[0]).toEqual({
      at: '2026-02-19T12:00:00.000Z',
      total_bytes: 1000,
      used_bytes: 400,
      available_bytes: 600,
      used_percentage: 40,
      total_inodes: 1000,
      used_inodes: 10,
      latency_ms: 7,
      health_status: 'healthy',
    })
    const short = await api.call<{ samples: unknown[] }>('GET', `/repositories/${local.id}/trend?days=1`)
    expect([short.body.samples.length, short.body]).toMatchObject([2, { growth_bytes_per_day: null, full_at: null }])
  })

  test.each(['0', '401', 'week', '1.5'])('of %s days is refused', async (days) => {
    const { status, body } = await api.call('GET', `/repositories/${local.id}/trend?days=${days}`)
    expect([status, body.error_code]).toEqual([400, 'INVALID_REQUEST'])
  })
})
