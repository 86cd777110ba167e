import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { randomUUID } from 'node:crypto'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { insertBackup, insertBackupDisk, insertRepository, insertVm } from '../../test/catalog-rows.ts'
import type { Catalog } from '../client.ts'
import { endBackup } from './backup-records.ts'
import { noteWhyParked, parkBackup, unparkBackup } from './parking.ts'

const full = { reason: 'repository_full' as const, message: 'The repository is full.' }
const away = { reason: 'repository_unavailable' as const, message: 'The share does not answer.' }

let database: TestCatalog
let catalog: Catalog
let backupId: string
beforeAll(async () => {
  database = await createTestCatalog()
  catalog = database.catalog
  await insertRepository(catalog, 'repo')
})
afterAll(() => database.drop())

/** Running, with two disks. */
beforeEach(async () => {
  backupId = randomUUID()
  await insertVm(catalog, backupId)
  const running = { status: 'running' as const, completed_at: null }
  await insertBackup(catalog, { id: backupId, vm_context_id: backupId, repository_id: 'repo', ...running })
  for (const disk of [0, 1]) await insertBackupDisk(catalog, backupId, disk)
})

function job() {
  return catalog
    .selectFrom('backup_jobs')
    .select(['status', 'parked_reason', 'parked_at', 'parked_message'])
    .where('id', '=', backupId)
    .executeTakeFirstOrThrow()
}

function openAlerts() {
  return catalog.selectFrom('alerts').selectAll().where('backup_id', '=', backupId).where('resolved_at', 'is', null).execute()
}

test('a parked backup says why and since when, and one alert is open, however often it is noted', async () => {
  await parkBackup(catalog, { backupId, diskIndex: 0, ...full })
  const first = await job()
  expect(first).toMatchObject({ status: 'running', parked_reason: 'repository_full', parked_message: full.message })
  await parkBackup(catalog, { backupId, diskIndex: 0, ...full })
  await parkBackup(catalog, { backupId, diskIndex: 1, ...full })
  expect((await job()).parked_at).toEqual(first.parked_at)
  expect(await openAlerts()).toMatchObject([
    { kind: 'backup_parked', repository_id: 'repo', message: expect.stringContaining(full.message) },
  ])
})

test('it is parked until the last of its disks goes on', async () => {
  for (const diskIndex of [0, 1]) await parkBackup(catalog, { backupId, diskIndex, ...full })
  await unparkBackup(catalog, { backupId, diskIndex: 0 })
  await unparkBackup(catalog, { backupId, diskIndex: 0 })
  expect((await job()).parked_reason).toBe('repository_full')
  expect(await openAlerts()).toHaveLength(1)
  await unparkBackup(catalog, { backupId, diskIndex: 1 })
  expect(await job()).toMatchObject({ parked_reason: null, parked_at: null, parked_message: null })
  expect(await openAlerts()).toEqual([])
})

test('both disks at the same time leave it neither parked nor forgotten', async () => {
  for (const diskIndex of [0, 1]) await parkBackup(catalog, { backupId, diskIndex, ...full })
  await Promise.all([0, 1].map((diskIndex) => unparkBackup(catalog, { backupId, diskIndex })))
  expect((await job()).parked_reason).toBeNull()
  await Promise.all([0, 1].map((diskIndex) => parkBackup(catalog, { backupId, diskIndex, ...away })))
  expect(await openAlerts()).toHaveLength(1)
})

test('a backup that waits before or after its disks is parked as a whole', async () => {
  await parkBackup(catalog, { backupId, diskIndex: null, ...away })
  expect((await job()).parked_reason).toBe('repository_unavailable')
  await unparkBackup(catalog, { backupId, diskIndex: null })
  expect((await job()).parked_reason).toBeNull()
})

test('the reason changes while it waits, and comes to nothing that does not wait', async () => {
  await noteWhyParked(catalog, backupId, away)
  expect((await job()).parked_reason).toBeNull()
  await parkBackup(catalog, { backupId, diskIndex: 0, ...full })
  await noteWhyParked(catalog, backupId, away)
  expect(await job()).toMatchObject({ parked_reason: 'repository_unavailable', parked_message: away.message })
})

test('a backup that has ended is not parked, and is never parked again', async () => {
  await parkBackup(catalog, { backupId, diskIndex: 0, ...full })
  await endBackup(catalog, { backupId, state: 'cancelled', code: 'CANCELLED', message: 'x' })
  expect(await job()).toMatchObject({ status: 'cancelled', parked_reason: null, parked_at: null })
  expect(await openAlerts()).toEqual([])
  await parkBackup(catalog, { backupId, diskIndex: 0, ...full })
  expect((await job()).parked_reason).toBeNull()
  expect(await openAlerts()).toEqual([])
})

test('parked again soon, it has the alert that it had, not another one', async () => {
  const parked = { backupId, diskIndex: 0 }
  await parkBackup(catalog, { ...parked, ...full })
  const [first] = await openAlerts()
  await unparkBackup(catalog, parked)
  expect(await openAlerts()).toEqual([])
  await parkBackup(catalog, { ...parked, ...away })
  expect(await openAlerts()).toMatchObject([
    { id: first?.id, opened_at: first?.opened_at, message: expect.stringContaining(away.message) },
  ])
})
