import { mkdir, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { homeFolders } from '../runtime/environment.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { prepareStateFolders } from './state-folders.ts'

test('the folders are private, and the run folder of the last run is emptied', async () => {
  const home = join(await temporaryFolder(), 'home')
  const folders = await prepareStateFolders(home)
  await writeFile(join(folders.run, 'left-over.sock'), '')
  await writeFile(join(folders.keys, 'session.key'), 'secret')
  await prepareStateFolders(home)
  expect(await readdir(folders.run)).toEqual([])
  expect(await readdir(folders.keys)).toEqual(['session.key'])
  for (const folder of [home, folders.run, folders.keys, folders.logs]) expect((await stat(folder)).mode & 0o777).toBe(0o700)
})

test('somebody else’s run folder is refused', async () => {
  const home = join(await temporaryFolder(), 'deep'.repeat(20), 'home')
  const { run } = homeFolders(home)
  onTestFinished(() => rm(run, { recursive: true, force: true }))
  const trap = await temporaryFolder()
  await mkdir(join(trap, 'theirs'))
  await symlink(trap, run)
  await expect(prepareStateFolders(home)).rejects.toMatchObject({
    code: 'INVALID_REQUEST',
    message: expect.stringContaining(run),
  })
  expect(await readdir(trap)).toEqual(['theirs'])
})
