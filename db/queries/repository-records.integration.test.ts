import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { insertBackup, insertRepository, insertVm } from '../../test/catalog-rows.ts'
import { failureOf } from '../../test/failure.ts'
import { openAlert } from './alerts.ts'
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
