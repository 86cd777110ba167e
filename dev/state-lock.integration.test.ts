import { symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { startTool } from '../tools/run-tool.ts'
import { lockState } from './state-lock.ts'

const holder = { pid: 4711, url: 'http://127.0.0.1:8082' }

test('a second one is refused and told who has the state, also through another name of the folder', async () => {
  const folder = await temporaryFolder()
  const home = join(folder, 'home')
  const lock = await lockState(home, holder)
  onTestFinished(() => lock.release())
  await symlink(home, join(folder, 'alias'))
  for (const name of [home, join(folder, 'alias')]) {
    await expect(lockState(name, holder)).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      message: expect.stringMatching(/pid 4711, http:\/\/127\.0\.0\.1:8082.*kill 4711.*HOLDFAST_HOME/),
      details: holder,
    })
  }
})

test('released, it can be taken again; other folders are never in the way', async () => {
  const home = await temporaryFolder()
  const first = await lockState(home, holder)
  const other = await lockState(await temporaryFolder(), holder)
  await Promise.all([first.release(), first.release()])
  const second = lockState(home, holder)
  await expect(second).resolves.toBeDefined()
  await Promise.all([(await second).release(), other.release()])
})

test('of many that come at once, one gets it', async () => {
  const home = await temporaryFolder()
  const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => lockState(home, holder)))
  const winners = outcomes.filter((outcome) => outcome.status === 'fulfilled')
  await Promise.all(winners.map((winner) => winner.value.release()))
  expect(winners).toHaveLength(1)
})

test('the lock of a process that was killed is free at once', async () => {
  const home = await temporaryFolder()
  const locked = Promise.withResolvers<void>()
  const module = JSON.stringify(join(import.meta.dirname, 'state-lock.ts'))
  const script = `const { lockState } = await import(${module})
    await lockState(${JSON.stringify(home)}, { pid: process.pid, url: 'x' })
    console.log('locked')
    setInterval(() => {}, 1000)`
  const other = startTool(process.execPath, ['--input-type=module', '--eval', script], { onOutput: () => locked.resolve() })
  onTestFinished(() => other.stop(0))
  await locked.promise
  await expect(lockState(home, holder)).rejects.toMatchObject({ details: { pid: other.pid } })
  process.kill(other.pid, 'SIGKILL')
  await other.exited
  const lock = await lockState(home, holder)
  await lock.release()
})
