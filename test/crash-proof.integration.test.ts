/**
 * The promise of Holdfast, on the whole stack: kill -9 any process at a random moment of a two-disk backup, and the backup completes,
 * verifies, and the transfer did not start again from zero. And what a run leaves behind holds no password.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hasEnded } from '../dev/demo/api-client.ts'
import type { ServiceName } from '../dev/stack.ts'
import { CrashScenario, DISK_BYTES, resumedAsPromised } from './crash-scenario.ts'
import { requireTool } from './requires.ts'
import { workflowHistories } from './workflow-histories.ts'

requireTool('qemu-nbd')

let scenario: CrashScenario

beforeAll(async () => {
  scenario = await CrashScenario.start()
})

afterAll(() => scenario?.stop())

describe('kill -9 at a random moment of a two-disk backup', () => {
  test.each<ServiceName>(['mover', 'control', 'temporal', 'mariadb'])(
    'of %s: the backup completes, from where it was',
    async (victim) => {
      const backupId = await scenario.startBackup()
      await scenario.killDuring(backupId, victim)
      const done = await scenario.follow(backupId, hasEnded)

      expect(done).toMatchObject({ status: 'completed', error_code: null })
      expect(resumedAsPromised(done, victim), JSON.stringify(done.disks)).toEqual([true, true])
      const verified = await scenario.verify(backupId)
      expect(verified.verification_message ?? '').not.toMatch(/damage/i)
      expect(verified.verification_status).toBe('passed')
      await scenario.requireSameContent(backupId)
    },
  )
})

test('stopped in the middle of a backup and started again, the backup goes on at its last checkpoint', async () => {
  const backupId = await scenario.startBackup()
  await scenario.follow(backupId, (view) => view.processed_bytes >= DISK_BYTES * 0.6)
  const stoppingAt = Date.now()
  await scenario.stack.stop()
  expect(Date.now() - stoppingAt).toBeLessThan(30_000)

  await scenario.startAgain()
  const done = await scenario.follow(backupId, hasEnded)
  expect(done).toMatchObject({ status: 'completed', error_code: null })
  expect(done.disks.map((disk) => disk.resumed_at_bytes > 0)).toEqual([true, true])
  await scenario.requireSameContent(backupId)
})

test('histories, logs and process list hold no password and no token', async () => {
  const { token } = await scenario.api.call('POST', '/auth/login', z.object({ token: z.string() }), scenario.admin)
  const secrets = [scenario.admin.password, token]
  const places = [...(await logTexts()), ...(await processTexts()), ...(await workflowHistories(scenario.stack.temporalAddress))]
  expect(places.length, 'something was looked at').toBeGreaterThan(10)
  for (const { where, text } of places) {
    for (const secret of secrets) expect(text.includes(secret), `a secret stands in ${where}`).toBe(false)
  }
})

async function logTexts(): Promise<{ where: string; text: string }[]> {
  const { logs } = scenario.stack.folders
  const names = await readdir(logs)
  return Promise.all(names.map(async (name) => ({ where: `log ${name}`, text: await readFile(join(logs, name), 'utf8') })))
}

async function processTexts(): Promise<{ where: string; text: string }[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  return Promise.all(
    pids.map(async (pid) => {
      // A process may end between the listing and the look.
      const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      return { where: `the command line of process ${pid}`, text }
    }),
  )
}
