/** Looks at the places of repositories: what lies there must be theirs, once they are registered. */
import { mkdir, readdir, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MockActivityEnvironment } from '@temporalio/testing'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { LocalRepositoryHost } from '../hosting/repository-host.ts'
import { ShareDesk } from '../hosting/share-desk.ts'
import { createTestCatalog } from '../test/catalog.ts'
import type { TestCatalog } from '../test/catalog.ts'
import { insertRepository } from '../test/catalog-rows.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { createLocker } from '../tools/locker.ts'
import { createMounter } from '../tools/mount.ts'
import { runTool } from '../tools/run-tool.ts'
import { createRepositoryPlaceActivities } from './repository-places.ts'
import type { RepositoryPlaceActivities } from './repository-places.ts'

let database: TestCatalog
beforeAll(async () => {
  database = await createTestCatalog()
})
afterAll(() => database?.drop())

let home: string
let steps: RepositoryPlaceActivities
/** Ids of repositories for which no transfers are taken any more. */
let detached: string[]
beforeEach(async () => {
  await database.catalog.deleteFrom('backup_repositories').execute()
  home = await temporaryFolder()
  detached = []
  const mountsFolder = join(home, 'mounts')
  const desk = new ShareDesk({ folder: mountsFolder, mounter: createMounter(), passwordOf: async () => '' })
  const repositories = new LocalRepositoryHost({ desk, mountsFolder, log: () => undefined })
  steps = createRepositoryPlaceActivities({
    catalog: database.catalog,
    repositories,
    locker: createLocker(),
    attachRepository: async () => undefined,
    detachRepository: async (repositoryId) => void detached.push(repositoryId),
    mountsFolder,
  })
})

const run = <T>(step: () => Promise<T>): Promise<T> => new MockActivityEnvironment().run(step)
const folder = (repositoryId: string, path: string) => ({
  repositoryId,
  name: repositoryId,
  type: 'local' as const,
  hostId: 'local',
  config: { path },
})

/** Made and registered. */
async function registered(repositoryId: string, path: string): Promise<ReturnType<typeof folder>> {
  const repository = folder(repositoryId, path)
  await run(() => steps.initializeRepository(repository))
  await insertRepository(database.catalog, repositoryId)
  const config = JSON.stringify({ path })
  await database.catalog.updateTable('backup_repositories').set({ config }).where('id', '=', repositoryId).execute()
  return repository
}

test('the empty folder under a disk that is not mounted is no registered repository, however well it takes files', async () => {
  const path = join(home, 'disk')
  const repository = await registered('repo-disk', path)
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

test('transfers are taken for a repository that is forgotten where it was, and for one that is gone no more', async () => {
  const repository = await registered('repo-moves', join(home, 'here'))
  await run(() => steps.forgetRepository(repository))
  expect(detached).toEqual([])
  await database.catalog.deleteFrom('backup_repositories').execute()
  await run(() => steps.forgetRepository(repository))
  expect(detached).toEqual(['repo-moves'])
})

describe('a folder that lies in another repository, whatever its path says', () => {
  const refused = { type: 'REPO_INVALID', message: expect.stringContaining('through a link or a mount') }

  test('is refused behind a link, from inside and from around', async () => {
    await registered('repo-inner', join(home, 'disk/backups'))
    await symlink(join(home, 'disk/backups'), join(home, 'link'))
    await symlink(join(home, 'disk'), join(home, 'around'))
    for (const path of [join(home, 'link/more'), join(home, 'around')]) {
      await expect(run(() => steps.mountRepository(folder('repo-new', path)))).rejects.toMatchObject(refused)
    }
    await run(() => steps.mountRepository(folder('repo-new', join(home, 'around/beside'))))
    await run(() => steps.mountRepository(folder('repo-inner', join(home, 'link/more'))))
  })

  test('is refused behind a bound mount, and where a repository would move', async () => {
    await registered('repo-first', join(home, 'first'))
    const second = await registered('repo-second', join(home, 'second'))
    const bound = join(home, 'bound')
    await mkdir(join(home, 'first/more'))
    await mkdir(bound)
    await runTool('mount', ['-n', '--bind', join(home, 'first/more'), bound], { timeoutMs: 10_000 })
    onTestFinished(async () => void (await runTool('umount', ['-n', bound], { timeoutMs: 10_000 })))
    await expect(run(() => steps.mountRepository(folder('repo-new', bound)))).rejects.toMatchObject(refused)
    const moved = { repository: second, place: { config: { path: bound }, credentialsId: null } }
    await expect(run(() => steps.checkMovedRepository(moved))).rejects.toMatchObject(refused)
  })
})

describe('testing a place that nobody registered', () => {
  const probe = (path: string) => run(() => steps.probeRepository(folder('repo-new', path)))

  test('finds what registering it would find', async () => {
    const path = join(home, 'photos')
    await mkdir(path)
    await writeFile(join(path, 'holiday.jpg'), 'x')
    await expect(probe(path)).rejects.toMatchObject({ type: 'REPO_INVALID', message: expect.stringContaining('holiday.jpg') })
    expect(await readdir(path)).toEqual(['holiday.jpg'])
    const foreign = join(home, 'foreign')
    await run(() => steps.initializeRepository(folder('repo-foreign', foreign)))
    await expect(probe(foreign)).rejects.toMatchObject({ type: 'REPO_INVALID', message: expect.stringContaining('repo-foreign') })
  })

  test('takes the place of a registered repository for what it is, and one that is being registered, too', async () => {
    await registered('repo-known', join(home, 'known'))
    expect(await probe(join(home, 'known'))).toMatchObject({ writable: true })
    await run(() => steps.initializeRepository(folder('repo-new', join(home, 'new'))))
    expect(await probe(join(home, 'new'))).toMatchObject({ writable: true })
  })
})
