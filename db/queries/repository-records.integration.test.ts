import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { insertBackup, insertRepository, insertVm } from '../../test/catalog-rows.ts'
import { failureOf } from '../../test/failure.ts'
import { listAlerts, openAlert } from './alerts.ts'
import { recordLook } from './repository-health.ts'
import { requireRepository } from './repositories.ts'
import { updateRepository } from './repository-records.ts'

let database: TestCatalog
beforeAll(async () => {
  database = await createTestCatalog()
})
afterAll(() => database?.drop())

test('a repository stays where it is while a backup runs into it, although it was unused when the change began', async () => {
  const { catalog } = database
  const place = { config: { path: '/srv/elsewhere' }, credentialsId: null }
  const configOf = async () => (await requireRepository(catalog, 'repo-a')).config
  await insertVm(catalog, 'ctx-1')
  await insertRepository(catalog, 'repo-a')
  const backup = { id: 'backup-1', vm_context_id: 'ctx-1', repository_id: 'repo-a', completed_at: null }
  const begin = () => insertBackup(catalog, { ...backup, status: 'pending' })
  await begin()

  const refused = await failureOf(updateRepository(catalog, 'repo-a', { place }))
  expect(refused).toMatchObject({ code: 'REPO_IN_USE', details: { backup_ids: ['backup-1'] } })
  expect(await configOf()).toEqual({ path: '/srv/repo-a' })
  await updateRepository(catalog, 'repo-a', { settings: { enabled: false } })

  await catalog.deleteFrom('backup_jobs').execute()
  await updateRepository(catalog, 'repo-a', { place })
  await begin()
  // The answer was lost, and it is said again.
  await updateRepository(catalog, 'repo-a', { place })
  expect(await configOf()).toEqual(place.config)
})

test('a share that is switched off is no longer reported as away, because nobody looks at it', async () => {
  const { catalog } = database
  await insertRepository(catalog, 'repo-share')
  await catalog.updateTable('backup_repositories').set({ repository_type: 'nfs' }).where('id', '=', 'repo-share').execute()
  await insertRepository(catalog, 'repo-folder')
  for (const subject of ['repo-share', 'repo-folder']) {
    const alert = { kind: 'repository_offline', severity: 'critical', message: 'It is away.' } as const
    await openAlert(catalog, { ...alert, subject, repositoryId: subject })
    await updateRepository(catalog, subject, { settings: { enabled: false } })
  }
  const left = await catalog.selectFrom('alerts').select('repository_id').where('resolved_at', 'is', null).execute()
  expect(left).toEqual([{ repository_id: 'repo-folder' }])
})

const used = (percent: number) => ({
  reached: true as const,
  storage: {
    totalBytes: 10_000,
    usedBytes: percent * 100,
    availableBytes: 10_000 - percent * 100,
    totalInodes: 0,
    usedInodes: 0,
    writable: true,
  },
  latencyMs: 1,
})
const away = { reached: false as const, code: 'REPO_UNAVAILABLE', message: 'No answer.', latencyMs: 1 }

test('a look that somebody asked for opens no alert about a share that is switched off, and neither does one that began before', async () => {
  const { catalog } = database
  await insertRepository(catalog, 'repo-off')
  const off = { repository_type: 'nfs', enabled: false } as const
  await catalog.updateTable('backup_repositories').set(off).where('id', '=', 'repo-off').execute()
  await recordLook(catalog, 'repo-off', away)
  expect(await requireRepository(catalog, 'repo-off')).toMatchObject({ health: 'offline', health_message: 'No answer.' })
  expect(await listAlerts(catalog, { repositoryId: 'repo-off' }, { limit: 9 })).toEqual([])

  // Switched on again nobody knows yet: a backup is not refused for what was so long ago.
  await updateRepository(catalog, 'repo-off', { settings: { enabled: true } })
  expect(await requireRepository(catalog, 'repo-off')).toMatchObject({ health: 'unknown', health_message: null })
})

describe('other thresholds count at once', () => {
  const change = (warningPercent: number, criticalPercent: number) =>
    updateRepository(database.catalog, 'repo-full', { settings: { thresholds: { warningPercent, criticalPercent } } })
  const standing = async () => {
    const { health, stopped_at } = await requireRepository(database.catalog, 'repo-full')
    const open = await listAlerts(database.catalog, { repositoryId: 'repo-full', state: 'unresolved' }, { limit: 9 })
    return [health, stopped_at !== null, ...open.map(({ kind }) => kind).sort()]
  }
  beforeEach(async () => {
    await database.catalog.deleteFrom('backup_repositories').where('id', '=', 'repo-full').execute()
    await insertRepository(database.catalog, 'repo-full')
    await recordLook(database.catalog, 'repo-full', used(96))
  })

  test('up and down, without a look in between', async () => {
    expect(await standing()).toEqual(['critical', true, 'storage_critical'])
    await change(90, 98)
    expect(await standing(), 'a stop of the old ones is over').toEqual(['warning', false, 'storage_warning'])
    await change(97, 98)
    expect(await standing()).toEqual(['healthy', false])
    await change(60, 80)
    expect(await standing()).toEqual(['critical', true, 'storage_critical'])
    await updateRepository(database.catalog, 'repo-full', { settings: { thresholds: null } })
    expect(await standing()).toEqual(['critical', true, 'storage_critical'])
  })

  test('the same again change nothing: what was stopped waits until there is room', async () => {
    await recordLook(database.catalog, 'repo-full', used(92))
    await change(90, 95)
    expect(await standing()).toEqual(['critical', true, 'storage_critical'])
  })

  test('of one that is away decide whether it is stopped, and nothing else', async () => {
    await recordLook(database.catalog, 'repo-full', away)
    await change(97, 98)
    expect(await standing()).toEqual(['offline', false, 'repository_offline'])
    await recordLook(database.catalog, 'repo-full', used(96))
    expect(await standing()).toEqual(['healthy', false])
  })
})
