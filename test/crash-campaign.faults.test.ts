/**
 * What `crash-proof.integration.test.ts` shows once for each process, many times: kills at random moments, in every other backup two.
 * `HOLDFAST_ROUNDS` backups, 40 unless told otherwise; each takes about twenty seconds.
 */
import { randomInt } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { hasEnded } from '../dev/demo/api-client.ts'
import type { ServiceName } from '../dev/stack.ts'
import { CrashScenario, resumedAsPromised } from './crash-scenario.ts'
import { requireTool } from './requires.ts'

requireTool('qemu-nbd')

const others: readonly ServiceName[] = ['control', 'temporal', 'mariadb']

function anyOf(names: readonly ServiceName[]): ServiceName {
  return names[randomInt(names.length)]!
}

/** The first is killed in the middle of the transfer, the second as soon as the first is there again. */
const rounds = Array.from({ length: Number(process.env['HOLDFAST_ROUNDS'] ?? 40) }, (_, round): [number, ServiceName[]] => [
  round + 1,
  round % 2 === 0 ? [anyOf(['mover', ...others])] : ['mover', anyOf(others)],
])

let scenario: CrashScenario

beforeAll(async () => {
  scenario = await CrashScenario.start()
})

afterAll(() => scenario?.stop())

test.each(rounds)('backup %d, with kill -9 of %j, completes from where it was', async (_round, [first, second]) => {
  const backupId = await scenario.startBackup()
  await scenario.killDuring(backupId, first!)
  if (second) await scenario.kill(second)
  const done = await scenario.follow(backupId, hasEnded)

  expect(done).toMatchObject({ status: 'completed', error_code: null })
  expect(resumedAsPromised(done, first!), JSON.stringify(done.disks)).toEqual([true, true])
  expect((await scenario.verify(backupId)).verification_status).toBe('passed')
  await scenario.requireSameContent(backupId)
})
