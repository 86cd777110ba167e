import { existsSync } from 'node:fs'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { processRunFolder, removeDeadRunFolders, withRunFolder } from './run-folders.ts'

/** Above the greatest pid Linux gives. */
const NO_PID = 4_194_305

test('folders of dead processes are removed, ours and others stay', async () => {
  const run = await temporaryFolder()
  for (const folder of [processRunFolder(run), processRunFolder(run, NO_PID), join(run, 'mariadb')]) await mkdir(folder)
  expect(await removeDeadRunFolders(run)).toEqual([`mover-${NO_PID}`])
  expect((await readdir(run)).toSorted()).toEqual(['mariadb', `mover-${process.pid}`])
  expect(await removeDeadRunFolders(join(run, 'missing'))).toEqual([])
})

test('a step has a folder of its own, which goes with it', async () => {
  const run = await temporaryFolder()
  let seen = ''
  const failed = withRunFolder(run, async (folder) => {
    seen = folder
    expect(existsSync(folder)).toBe(true)
    throw new Error('x')
  })
  await expect(failed).rejects.toThrow('x')
  expect(existsSync(seen)).toBe(false)
})
