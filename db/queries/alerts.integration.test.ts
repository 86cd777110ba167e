import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { countRows, insertRepository } from '../../test/catalog-rows.ts'
import { failureOf } from '../../test/failure.ts'
import type { Catalog } from '../client.ts'
import {
  acknowledgeAlert,
  alertState,
  countAlerts,
  listAlerts,
  openAlert,
  pruneAlerts,
  requireAlert,
  resolveAlert,
} from './alerts.ts'
import type { AlertFilter, NewAlert } from './alerts.ts'

let database: TestCatalog
let catalog: Catalog

beforeAll(async () => {
  database = await createTestCatalog()
  catalog = database.catalog
  await insertRepository(catalog, 'repo-1')
  await insertRepository(catalog, 'repo-2')
})
beforeEach(() => catalog.deleteFrom('alerts').execute())
afterAll(() => database?.drop())

const at = (minute: number) => new Date(Date.UTC(2026, 1, 1, 12, minute))
const warning: NewAlert = {
  kind: 'storage_warning',
  subject: 'repo-1',
  severity: 'warning',
  message: '91 % full',
  repositoryId: 'repo-1',
  details: { used_percentage: 91 },
}
const onlyId = async (): Promise<string> => (await catalog.selectFrom('alerts').select('id').executeTakeFirstOrThrow()).id
const everyAlert = () => catalog.selectFrom('alerts').selectAll().orderBy('opened_at').execute()

describe('an alert', () => {
  test('is opened once for its cause; what is seen later is told, its beginning stays', async () => {
    expect(await openAlert(catalog, warning, at(0))).toBe(true)
    expect(await openAlert(catalog, { ...warning, message: '93 % full', details: {} }, at(5))).toBe(false)
    expect(await openAlert(catalog, warning, at(3)), 'a look that comes late').toBe(false)
    const [row, ...others] = await everyAlert()
    expect(others).toEqual([])
    expect(row).toMatchObject({ opened_at: at(0), seen_at: at(5), severity: 'warning', repository_id: 'repo-1' })
    expect(row?.id).toMatch(/^alert-[0-9a-z]{26}$/)
  })

  test('of another kind, or of another subject, is another one', async () => {
    await openAlert(catalog, warning, at(0))
    expect(await openAlert(catalog, { ...warning, kind: 'storage_critical' }, at(0))).toBe(true)
    expect(await openAlert(catalog, { ...warning, subject: 'repo-2', repositoryId: 'repo-2' }, at(0))).toBe(true)
    expect(await everyAlert()).toHaveLength(3)
  })

  test('is one, and one is told that it is new, when twenty open it at the same time', async () => {
    const opened = await Promise.all(Array.from({ length: 20 }, (_, minute) => openAlert(catalog, warning, at(minute))))
    expect(opened.filter(Boolean)).toHaveLength(1)
    expect(await everyAlert()).toHaveLength(1)
    expect((await everyAlert())[0]?.seen_at).toEqual(at(19))
  })

  test('that is resolved stays in the list, and the same cause opens a new one', async () => {
    await openAlert(catalog, warning, at(0))
    expect(await resolveAlert(catalog, 'storage_warning', 'repo-1', at(1))).toBe(true)
    expect(await resolveAlert(catalog, 'storage_warning', 'repo-1', at(2)), 'again').toBe(false)
    expect(await openAlert(catalog, warning, at(3))).toBe(true)
    expect((await everyAlert()).map((row) => [alertState(row), row.resolved_at])).toEqual([
      ['resolved', at(1)],
      ['open', null],
    ])
  })

  test('opened and resolved by many at once ends as one that is open or none, never as two', async () => {
    await Promise.all(
      Array.from({ length: 30 }, (_, turn) =>
        turn % 3 === 2 ? resolveAlert(catalog, 'storage_warning', 'repo-1') : openAlert(catalog, warning),
      ),
    )
    expect(await countAlerts(catalog, { state: 'unresolved' })).toBeLessThanOrEqual(1)
    await openAlert(catalog, warning)
    expect(await countAlerts(catalog, { state: 'unresolved' })).toBe(1)
  })

  test('inside a transaction that is rolled back was never there', async () => {
    const failing = catalog.transaction().execute(async (transaction) => {
      await openAlert(transaction, warning)
      throw new Error('later step')
    })
    await expect(failing).rejects.toThrow('later step')
    expect(await countRows(catalog, 'alerts')).toBe(0)
  })
})

describe('acknowledging', () => {
  test('notes who and when, once; it stays open until its cause is over', async () => {
    await openAlert(catalog, warning, at(0))
    const id = await onlyId()
    const first = await acknowledgeAlert(catalog, id, { by: 'anna', at: at(1) })
    expect(first).toMatchObject({ acknowledged_by: 'anna', acknowledged_at: at(1), resolved_at: null })
    expect(alertState(first)).toBe('acknowledged')
    expect(await acknowledgeAlert(catalog, id, { by: 'bert', at: at(2) })).toEqual(first)
    expect(await openAlert(catalog, warning, at(3))).toBe(false)
    expect(await requireAlert(catalog, id)).toMatchObject({ acknowledged_by: 'anna', seen_at: at(3) })
    await resolveAlert(catalog, 'storage_warning', 'repo-1', at(4))
    expect(alertState(await requireAlert(catalog, id))).toBe('resolved')
  })

  test('changes nothing of an alert that is over, and finds no other', async () => {
    await openAlert(catalog, warning, at(0))
    await resolveAlert(catalog, 'storage_warning', 'repo-1', at(1))
    const id = await onlyId()
    expect(await acknowledgeAlert(catalog, id, { by: 'anna', at: at(2) })).toMatchObject({ acknowledged_by: null })
    const failure = await failureOf(acknowledgeAlert(catalog, 'alert-none', { by: 'anna', at: at(2) }))
    expect([failure.code, failure.details]).toEqual(['ALERT_NOT_FOUND', { alert_id: 'alert-none' }])
  })
})

describe('a list', () => {
  beforeEach(async () => {
    await openAlert(catalog, warning, at(0))
    await resolveAlert(catalog, 'storage_warning', 'repo-1', at(1))
    await openAlert(catalog, { ...warning, kind: 'repository_offline' }, at(2))
    await openAlert(catalog, { ...warning, subject: 'repo-2', repositoryId: 'repo-2' }, at(2))
    const [row] = await listAlerts(catalog, { repositoryId: 'repo-2' }, { limit: 1 })
    await acknowledgeAlert(catalog, row!.id, { by: 'anna', at: at(3) })
  })

  test.each<[AlertFilter, number]>([
    [{}, 3],
    [{ state: 'open' }, 1],
    [{ state: 'acknowledged' }, 1],
    [{ state: 'unresolved' }, 2],
    [{ state: 'resolved' }, 1],
    [{ kind: 'storage_warning' }, 2],
    [{ kind: 'storage_warning', state: 'unresolved' }, 1],
    [{ repositoryId: 'repo-1' }, 2],
    [{ repositoryId: 'repo-1', state: 'resolved', kind: 'repository_offline' }, 0],
  ])('with %j has %i', async (filter, expected) => {
    expect(await listAlerts(catalog, filter, { limit: 10 })).toHaveLength(expected)
    expect(await countAlerts(catalog, filter)).toBe(expected)
  })

  test('in pages of one, newest first, has each once', async () => {
    const whole = await listAlerts(catalog, {}, { limit: 10 })
    expect(whole.map((row) => row.opened_at)).toEqual([at(2), at(2), at(0)])
    let after: { createdAt: Date; id: string } | undefined
    for (const expected of whole) {
      const [row] = await listAlerts(catalog, {}, { limit: 1, after })
      expect(row).toEqual(expected)
      after = { createdAt: row!.opened_at, id: row!.id }
    }
    expect(await listAlerts(catalog, {}, { limit: 1, after })).toEqual([])
  })

  test('loses what was resolved long ago, and nothing else', async () => {
    expect(await pruneAlerts(catalog, at(1))).toBe(0)
    expect(await pruneAlerts(catalog, at(2))).toBe(1)
    expect(await countAlerts(catalog, {})).toBe(2)
  })
})
