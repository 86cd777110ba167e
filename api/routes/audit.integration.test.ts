import { afterAll, beforeAll, expect, test } from 'vitest'
import { insertAuditEvent } from '../../db/queries/audit.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'

interface AuditList {
  events: { id: number; action: string }[]
  count: number
  total_count: number
  next_cursor: string | null
}

let api: TestApi
const at = (minute: number) => new Date(Date.UTC(2026, 1, 1, 12, minute))

/** Two of them at the same instant: their order is that of their ids. */
const trail = [
  { at: at(1), username: 'anna', action: 'mount.open', subjectId: 'mount-1', details: {} },
  { at: at(2), username: 'anna', action: 'file.list', subjectId: 'mount-1', details: { path: '/etc', first: 0 } },
  { at: at(2), username: 'anna', action: 'file.download', subjectId: 'mount-1', details: { path: '/etc/caf\uf7e9' } },
  { at: at(3), username: 'bert', action: 'file.download', subjectId: 'mount-2', details: { path: '/a', range: 'bytes=0-1' } },
  { at: at(4), username: 'bert', action: 'mount.release', subjectId: 'mount-2', details: {} },
]

beforeAll(async () => {
  api = await createTestApi()
  for (const { username, ...event } of trail) {
    const who = { userId: `user-${username}`, username, requestId: 'request-1', remoteAddress: '10.0.0.7' }
    await insertAuditEvent(api.catalog, { ...event, ...who, subjectType: 'restore-mount' })
  }
})
afterAll(() => api?.drop())

const list = (query = '') => api.call<AuditList>('GET', `/audit${query}`)
const newestFirst = ['mount.release', 'file.download', 'file.download', 'file.list', 'mount.open']

test('lists what was done, newest first, with who, what and when', async () => {
  const { status, body } = await list()
  expect([status, body.events.map(({ action }) => action), body.count, body.total_count, body.next_cursor]).toEqual([
    200,
    newestFirst,
    5,
    5,
    null,
  ])
  expect(body.events[2]).toEqual({
    id: expect.any(Number),
    at: '2026-02-01T12:02:00.000Z',
    user_id: 'user-anna',
    username: 'anna',
    action: 'file.download',
    subject_type: 'restore-mount',
    subject_id: 'mount-1',
    details: { path: '/etc/caf\uf7e9' },
    request_id: 'request-1',
    remote_address: '10.0.0.7',
  })
})

test.each([1, 2, 3])('in pages of %i nothing is missing and nothing comes twice', async (limit) => {
  const actions: string[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const { body }: { body: AuditList } = await list(`?limit=${limit}${cursor === '' ? '' : `&cursor=${cursor}`}`)
    actions.push(...body.events.map(({ action }) => action))
    cursor = body.next_cursor
  }
  expect(actions).toEqual(newestFirst)
})

test.each([
  ['?username=bert', ['mount.release', 'file.download']],
  ['?action=file.download', ['file.download', 'file.download']],
  ['?subject_id=mount-1&subject_type=restore-mount', ['file.download', 'file.list', 'mount.open']],
  ['?from=2026-02-01T13:02:00%2B01:00&to=2026-02-01T12:04:00Z', ['file.download', 'file.download', 'file.list']],
  ['?username=anna&action=file.download', ['file.download']],
  ['?username=ANNA', []],
  ['?subject_type=backup', []],
])('filters: %s', async (query, expected) => {
  const { body } = await list(query)
  expect([body.events.map(({ action }) => action), body.total_count]).toEqual([expected, expected.length])
})

test.each(['?from=yesterday', '?from=2026-02-01T12:00:00', '?action=%27%3Bdrop', '?cursor=x', '?limit=0', '?user=anna'])(
  'refuses %s',
  async (query) => {
    const { status, body } = await list(query)
    expect([status, body.error_code]).toEqual([400, 'INVALID_REQUEST'])
  },
)

test.each(['operator', 'viewer'] as const)('is not for %ss', async (as) => {
  const { status, body } = await api.call('GET', '/audit', { as })
  expect([status, body.error_code]).toEqual([403, 'FORBIDDEN'])
})
