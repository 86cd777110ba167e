/** Looks at the places of repositories: what lies there must be theirs, once they are registered. */
import { mkdir, readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { MockActivityEnvironment } from '@temporalio/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { LocalRepositoryHost } from '../hosting/repository-host.ts'
import { ShareDesk } from '../hosting/share-desk.ts'
import { createTestCatalog } from '../test/catalog.ts'
import type { TestCatalog } from '../test/catalog.ts'
import { insertRepository } from '../test/catalog-rows.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { createLocker } from '../tools/locker.ts'
import { createMounter } from '../tools/mount.ts'
import { createRepositoryPlaceActivities } from './repository-places.ts'

let database: TestCatalog
beforeAll(async () => {
  database = await createTestCatalog()
})
afterAll(() => database?.drop())

test('the empty folder under a disk that is not mounted is no registered repository, however well it takes files', async () => {
  const home = await temporaryFolder()
  const mountsFolder = join(home, 'mounts')
  const desk = new ShareDesk({ folder: mountsFolder, mounter: createMounter(), passwordOf: async () => '' })
  const repositories = new LocalRepositoryHost({ desk, mountsFolder, log: () => undefined })
  const steps = createRepositoryPlaceActivities({
    catalog: database.catalog,
    repositories,
    locker: createLocker(),
    attachRepository: async () => undefined,
    mountsFolder,
  })
  const run = <T>(step: () => Promise<T>): Promise<T> => new MockActivityEnvironment().run(step)
  const path = join(home, 'disk')
  const repository = { repositoryId: 'repo-disk', name: 'disk', type: 'local' as const, hostId: 'local', config: { path } }

  await run(() => steps.initializeRepository(repository))
  await insertRepository(database.catalog, 'repo-disk')
  expect(await run(() => steps.probeRepository(repository))).toMatchObject({ writable: true })
  await rename(path, `${path}-elsewhere`)
  await mkdir(path)

  const looks = [() => steps.probeRepository(repository), () => steps.probeImmutability(repository)]
  for (const look of looks) {
    await expect(run<unknown>(look)).rejects.toMatchObject({
      type: 'REPO_UNAVAILABLE',
      message: expect.stringContaining('not mounted'),
    })
  }
  expect(await readdir(path)).toEqual([])
  const unregistered = { ...repository, repositoryId: 'repo-new', name: 'new' }
  expect(await run(() => steps.probeRepository(unregistered))).toMatchObject({ writable: true })
})
