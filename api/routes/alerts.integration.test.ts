import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openAlert, resolveAlert } from '../../db/queries/alerts.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertRepository } from '../../test/catalog-rows.ts'

interface Alert {
  id: string
  kind: string
  state: string
}
interface AlertList {
  alerts: Alert[]
  count: number
  total_count: number
  next_cursor: string | null
}

let api: TestApi

const at = (minute: number) => new Date(Date.UTC(2026, 1, 1, 12, minute))

beforeAll(async () => {
  api = await createTestApi()
  await insertRepository(api.catalog, 'repo-1', 'Primary')
})
/** Three: a warning that is over, and two that are open, opened at the same instant. */
beforeEach(async () => {
  await api.catalog.deleteFrom('alerts').execute()
  await api.catalog.deleteFrom('audit_events').execute()
  const about = { subject: 'repo-1', repositoryId: 'repo-1', details: { used_percentage: 91 } }
  await openAlert(api.catalog, { ...about, kind: 'storage_warning', severity: 'warning', message: '91 %' }, at(0))
  await resolveAlert(api.catalog, 'storage_warning', 'repo-1', at(1))
  await openAlert(api.catalog, { ...about, kind: 'storage_critical', severity: 'critical', message: '96 %' }, at(2))
  const offline = { kind: 'repository_offline', severity: 'critical', message: 'gone', subject: 'x' } as const
  await openAlert(api.catalog, offline, at(2))
})
afterAll(() => api?.drop())

const list = (query = '') => api.call<AlertList>('GET', `/alerts${query}`, { as: 'viewer' })
const idOf = async (kind: string) => (await list(`?kind=${kind}`)).body.alerts[0]!.id
const acknowledge = (id: string, as: 'operator' | 'viewer' = 'operator') =>
  api.call<{ alert: Alert; message: string }>('POST', `/alerts/${id}/acknowledge`, { as })

test('one alert says what, since when, and about which repository', async () => {
  const id = await idOf('storage_critical')
  const { status, body } = await api.call('GET', `/alerts/${id}`, { as: 'viewer' })
  expect([status, body]).toEqual([
    200,
    {
      success: true,
      alert: {
        id,
        kind: 'storage_critical',
        severity: 'critical',
        state: 'open',
        message: '96 %',
        repository_id: 'repo-1',
        repository_name: 'Primary',
        backup_id: null,
        details: { used_percentage: 91 },
        opened_at: at(2).toISOString(),
        seen_at: at(2).toISOString(),
        acknowledged_at: null,
        acknowledged_by: null,
        resolved_at: null,
      },
    },
  ])
})

describe('a list', () => {
  test.each([
    ['', 3],
    ['?state=open', 2],
    ['?state=unresolved', 2],
    ['?state=resolved', 1],
    ['?state=acknowledged', 0],
    ['?kind=storage_warning', 1],
    ['?repository_id=repo-1', 2],
    ['?repository_id=repo-1&state=open', 1],
    ['?repository_id=repo-2', 0],
  ])('with "%s" has %i', async (query, expected) => {
    const { status, body } = await list(query)
    expect([status, body.alerts.length, body.count, body.total_count]).toEqual([200, expected, expected, expected])
  })

  test.each([1, 2])('in pages of %i has each once, newest first', async (limit) => {
    const kinds: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const { body }: { body: AlertList } = await list(`?limit=${limit}${cursor === '' ? '' : `&cursor=${cursor}`}`)
      kinds.push(...body.alerts.map(({ kind }) => kind))
      cursor = body.next_cursor
    }
    expect(kinds.toSorted()).toEqual(['repository_offline', 'storage_critical', 'storage_warning'])
    expect(kinds.at(-1)).toBe('storage_warning')
  })

  test.each(['?state=closed', '?kind=fire', '?cursor=x', '?limit=0', '?repository_id=a%27b', '?severity=critical'])(
    'refuses %s',
    async (query) => {
      const { status, body } = await list(query)
      expect([status, body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    },
  )
})

describe('acknowledging', () => {
  test('says who and when, once, and is in the audit trail', async () => {
    const id = await idOf('storage_critical')
    const { status, body } = await acknowledge(id)
    const acknowledged = { state: 'acknowledged', acknowledged_by: 'operator', acknowledged_at: '2026-03-01T12:00:00.000Z' }
    expect([status, body]).toMatchObject([200, { success: true, message: 'Alert acknowledged by operator', alert: acknowledged }])
    const again = await api.call('POST', `/alerts/${id}/acknowledge`)
    expect(again.body).toMatchObject({ alert: acknowledged })
    const trail = await api.catalog.selectFrom('audit_events').selectAll().orderBy('id').execute()
    expect(trail).toMatchObject([
      {
        action: 'alert.acknowledge',
        username: 'operator',
        subject_type: 'alert',
        subject_id: id,
        details: { kind: 'storage_critical', repository_id: 'repo-1' },
      },
      { action: 'alert.acknowledge', username: 'admin', subject_id: id },
    ])
    expect((await list('?state=acknowledged')).body.alerts).toMatchObject([{ id }])
  })

  test('of one that is over changes nothing', async () => {
    const { status, body } = await acknowledge(await idOf('storage_warning'))
    expect([status, body]).toMatchObject([200, { message: 'Alert was resolved already', alert: { state: 'resolved' } }])
    expect(body.alert).toMatchObject({ acknowledged_by: null })
  })

  test('is not for viewers', async () => {
    const { status, body } = await acknowledge(await idOf('storage_critical'), 'viewer')
    expect([status, body.error_code]).toEqual([403, 'FORBIDDEN'])
    expect((await list('?state=acknowledged')).body.alerts).toEqual([])
  })
})

test.each([
  ['GET', '/alerts/alert-none'],
  ['POST', '/alerts/alert-none/acknowledge'],
])('%s %s: there is none', async (method, path) => {
  const { status, body } = await api.call(method, path)
  expect([status, body.error_code]).toEqual([404, 'ALERT_NOT_FOUND'])
  expect(body).toMatchObject({ alert_id: 'alert-none' })
})
