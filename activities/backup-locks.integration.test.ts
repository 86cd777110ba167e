/** What of locks is in the catalog: ends that never come nearer, who may delete, and the word about a backup that could not be locked. */
import { MockActivityEnvironment } from '@temporalio/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { listAlerts } from '../db/queries/alerts.ts'
import { listLockable, recordLocks, repositoriesWithLocks } from '../db/queries/backup-locks.ts'
import { markForDeletion } from '../db/queries/pins.ts'
import { createTestCatalog } from '../test/catalog.ts'
import type { TestCatalog } from '../test/catalog.ts'
import { insertBackup, insertRepository, insertVm } from '../test/catalog-rows.ts'
import { failureOf } from '../test/failure.ts'
import { createLockRecordActivities } from './lock-attestation.ts'

const DAY_MS = 24 * 60 * 60 * 1000
const now = Date.now()
const ahead = (days: number): Date => new Date(now + days * DAY_MS)

let database: TestCatalog

beforeAll(async () => {
  database = await createTestCatalog()
  await insertVm(database.catalog, 'ctx-1')
})

afterAll(async () => {
  await database?.drop()
})

async function repository(
  id: string,
  rules: { is_immutable?: boolean; retention_period_days?: number; min_retention_days?: number } = {},
) {
  await insertRepository(database.catalog, id)
  await database.catalog
    .updateTable('backup_repositories')
    .set({ is_immutable: false, ...rules })
    .where('id', '=', id)
    .execute()
}

async function backup(repositoryId: string, name: string, ageDays: number, parent: string | null = null): Promise<string> {
  const id = `backup-${name}`
  const at = ahead(-ageDays)
  const row = {
    id,
    vm_context_id: 'ctx-1',
    repository_id: repositoryId,
    parent_backup_id: parent,
    created_at: at,
    completed_at: at,
  }
  await insertBackup(database.catalog, row)
  return id
}

const markOf = (backupId: string) => ({ backupId, ownerWorkflowId: 'vm-chain:ctx-1' })

test('an end is noted, and never comes nearer', async () => {
  const { catalog } = database
  await repository('repo-ends')
  const ids = [await backup('repo-ends', 'ends-a', 1), await backup('repo-ends', 'ends-b', 1)]
  const far = ahead(30)
  await recordLocks(catalog, [{ backupId: ids[0]!, until: far }])
  await recordLocks(
    catalog,
    ids.map((backupId) => ({ backupId, until: ahead(10) })),
  )
  const ends = (await listLockable(catalog, 'repo-ends', 'ctx-1')).map(({ id, lockedUntil }) => [id, lockedUntil])
  expect(Object.fromEntries(ends)).toEqual({ [ids[0]!]: far, [ids[1]!]: ahead(10) })
})

test('repositories with locks are those that are immutable, and those in which one still lasts', async () => {
  const { catalog } = database
  await repository('repo-immutable', { is_immutable: true, retention_period_days: 5 })
  await repository('repo-was-immutable')
  await repository('repo-long-ago')
  await recordLocks(catalog, [
    { backupId: await backup('repo-was-immutable', 'lasts', 1), until: ahead(1) },
    { backupId: await backup('repo-long-ago', 'ended', 9), until: ahead(-1) },
  ])
  const ids = (await repositoriesWithLocks(catalog, new Date())).map(({ id }) => id)
  expect(ids).toEqual(expect.arrayContaining(['repo-immutable', 'repo-was-immutable']))
  expect(ids).not.toContain('repo-long-ago')
})

test('a backup that is too young for its repository is not marked for deletion, and an older one is', async () => {
  const { catalog } = database
  await repository('repo-young', { min_retention_days: 7 })
  const young = await backup('repo-young', 'young', 2)
  expect(await failureOf(markForDeletion(catalog, markOf(young)))).toMatchObject({
    code: 'IMMUTABLE_RETENTION_ACTIVE',
    details: { backup_id: young, retention_expires_at: ahead(5).toISOString() },
  })
  await markForDeletion(catalog, markOf(await backup('repo-young', 'old', 8)))
})

test('the date comes before what else speaks against it', async () => {
  const { catalog } = database
  await repository('repo-chain', { is_immutable: true, retention_period_days: 7 })
  const full = await backup('repo-chain', 'full', 2)
  await backup('repo-chain', 'increment', 1, full)
  expect((await failureOf(markForDeletion(catalog, markOf(full)))).code).toBe('IMMUTABLE_RETENTION_ACTIVE')
})

test('what never was completed is kept by no rule', async () => {
  const { catalog } = database
  await repository('repo-failed', { is_immutable: true, retention_period_days: 7, min_retention_days: 7 })
  const id = await backup('repo-failed', 'failed', 1)
  await catalog.updateTable('backup_jobs').set({ status: 'failed' }).where('id', '=', id).execute()
  await markForDeletion(catalog, markOf(id))
  expect(await catalog.selectFrom('backup_pins').select('reason').where('backup_id', '=', id).execute()).toEqual([
    { reason: 'deletion' },
  ])
})

test('a backup that could not be locked is told, once', async () => {
  const { catalog } = database
  await repository('repo-told', { is_immutable: true, retention_period_days: 7 })
  const backupId = await backup('repo-told', 'told', 0)
  const steps = createLockRecordActivities({ catalog })
  for (let times = 0; times < 2; times++) {
    await new MockActivityEnvironment().run(() => steps.reportUnlocked({ backupId, message: 'chattr: No space left on device' }))
  }
  const alerts = await listAlerts(catalog, { repositoryId: 'repo-told' }, { limit: 10 })
  expect(alerts).toMatchObject([{ kind: 'immutability_broken', severity: 'critical', resolved_at: null }])
  expect(alerts[0]?.message).toContain(
    `backup ${backupId} was published and could not be locked: chattr: No space left on device. Remove what keeps it from being locked.`,
  )
  expect(alerts[0]?.message, 'nobody did this').not.toContain('who did')
})
