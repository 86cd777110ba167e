/** Places of repositories that are to be immutable, on real file systems: what a killed probe left, and where such a repository may be moved. */
import { cp, mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MockActivityEnvironment } from '@temporalio/testing'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { LocalRepositoryHost } from '../hosting/repository-host.ts'
import { ShareDesk } from '../hosting/share-desk.ts'
import { createTestCatalog } from '../test/catalog.ts'
import type { TestCatalog } from '../test/catalog.ts'
import { insertRepository } from '../test/catalog-rows.ts'
import { requireTool } from '../test/requires.ts'
import { createSmallDisk } from '../test/small-disk.ts'
import type { SmallDisk } from '../test/small-disk.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { setImmutable } from '../tools/chattr.ts'
import { createLocker } from '../tools/locker.ts'
import { createMounter } from '../tools/mount.ts'
import { runTool } from '../tools/run-tool.ts'
import { createRepositoryPlaceActivities } from './repository-places.ts'
import type { RepositoryPlaceActivities } from './repository-places.ts'

for (const program of ['chattr', 'mkfs.ext4']) requireTool(program)

let database: TestCatalog
let ext4: SmallDisk
let steps: RepositoryPlaceActivities

beforeAll(async () => {
  database = await createTestCatalog()
  ext4 = await createSmallDisk(48 * 1024 * 1024)
  const mountsFolder = join(ext4.path, 'mounts')
  const desk = new ShareDesk({ folder: mountsFolder, mounter: createMounter(), passwordOf: async () => '' })
  const repositories = new LocalRepositoryHost({ desk, mountsFolder, log: () => undefined })
  const attachRepository = async (): Promise<void> => undefined
  steps = createRepositoryPlaceActivities({
    catalog: database.catalog,
    repositories,
    locker: createLocker(),
    attachRepository,
    detachRepository: attachRepository,
    mountsFolder,
  })
})

afterAll(async () => {
  await database?.drop()
  await ext4?.remove()
})

const run = <T>(step: () => Promise<T>): Promise<T> => new MockActivityEnvironment().run(step)
const at = (path: string) => ({
  repositoryId: 'repo-kept',
  name: 'kept',
  type: 'local' as const,
  hostId: 'local',
  config: { path },
})

test('a place in which a locker was killed while it tried its locks is taken all the same, and tidied up', async () => {
  const path = join(ext4.path, 'tried')
  const left = join(path, '.holdfast-lock-probe-0123456789ab')
  await mkdir(join(left, 'folder'), { recursive: true })
  await writeFile(join(left, 'file'), 'locked')
  await writeFile(join(left, 'folder/inside'), 'locked')
  await setImmutable(left, ['file', 'folder'], true)
  onTestFinished(async () => void (await runTool('chattr', ['-R', '-i', path], { timeoutMs: 10_000 })))

  expect(await run(() => steps.initializeRepository(at(path)))).toMatchObject({ writable: true })
  expect(await run(() => steps.probeImmutability(at(path)))).toEqual({ enforcedBy: 'chattr', reason: null })
  expect(await run(() => steps.clearRepository(at(path)))).toBe(true)
  expect(await readdir(path)).toEqual([])
})

test('an immutable repository is not moved to where nothing can be locked', async () => {
  const path = join(ext4.path, 'here')
  await run(() => steps.initializeRepository(at(path)))
  await insertRepository(database.catalog, 'repo-kept')
  const setImmutability = (is: boolean) =>
    database.catalog.updateTable('backup_repositories').set({ is_immutable: is }).where('id', '=', 'repo-kept').execute()

  const tmpfs = await temporaryFolder()
  await runTool('mount', ['-t', 'tmpfs', 'tmpfs', tmpfs], { timeoutMs: 10_000 })
  onTestFinished(async () => void (await runTool('umount', ['--lazy', tmpfs], { timeoutMs: 10_000 })))
  const [there, elsewhere] = [join(tmpfs, 'copy'), join(ext4.path, 'copy')]
  for (const copy of [there, elsewhere]) await cp(path, copy, { recursive: true })
  const move = (to: string) => run(() => steps.checkMovedRepository({ repository: at(path), place: { config: { path: to } } }))

  await setImmutability(true)
  await expect(move(there)).rejects.toMatchObject({
    type: 'IMMUTABILITY_UNSUPPORTED',
    message: expect.stringContaining('tmpfs keeps everything in memory'),
  })
  expect(await move(elsewhere)).toMatchObject({ writable: true })
  await setImmutability(false)
  expect(await move(there)).toMatchObject({ writable: true })
})
