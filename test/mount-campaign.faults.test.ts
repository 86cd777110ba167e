/**
 * What `worker/mount-interruptions` and `worker/many-mounts` show once, many times: kills at random moments of a download, `HOLDFAST_ROUNDS` of them (24 unless told
 * otherwise), and `HOLDFAST_MOUNTS` (50) mounts at once with each driver.
 */
import { randomInt } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectNothingLeft, mountAll, readEach, releaseAll } from './many-mounts.ts'
import { expectRecovered, killDuringDownload, NEWS_MS } from './mount-campaign.ts'
import type { Victim } from './mount-campaign.ts'
import { createMountScenario } from './mount-scenario.ts'
import type { MountScenario } from './mount-scenario.ts'
import { requireTool } from './requires.ts'

requireTool('qemu-nbd')
requireTool('linux.uml')
requireTool('bwrap')

const MANY = Number(process.env['HOLDFAST_MOUNTS'] ?? 50)
/** Of all those disks, two at a time. */
const BACKUP_OF_MANY_MS = 600_000
const FILE_BYTES = 96 * 1024 ** 2
const victims: readonly Victim[] = ['exporter', 'reader', 'mover']

const kills = Array.from({ length: Number(process.env['HOLDFAST_ROUNDS'] ?? 24) }, (_, round): [number, Victim] => [
  round + 1,
  victims[round % victims.length]!,
])

let scenario: MountScenario

describe('kill -9 during a download', () => {
  beforeAll(async () => {
    scenario = await createMountScenario({ disks: 1, fileBytes: FILE_BYTES })
    await scenario.mount(scenario.disks[0]!)
  })

  afterAll(() => scenario?.close())

  test.each(kills)('%d, of the %s: the client hears of it, and the same file comes again', async (_round, victim) => {
    const disk = scenario.disks[0]!
    const afterBytes = randomInt(1, FILE_BYTES / 2)
    const { brokenAfterMs, bytes } = await killDuringDownload(scenario, disk, { victim, afterBytes })

    expect(brokenAfterMs).toBeLessThan(NEWS_MS)
    expect(bytes).toBeLessThan(FILE_BYTES)
    await expectRecovered(scenario, disk)
  })
})

describe.each(['user-mode-linux', 'kernel'] as const)('with the driver %s', (driver) => {
  beforeAll(async () => {
    scenario = await createMountScenario({ disks: MANY, fileBytes: 1024 ** 2, driver })
  }, BACKUP_OF_MANY_MS)

  afterAll(() => scenario?.close())

  test(`${MANY} disks are mounted at once, and released in random order`, async () => {
    const mounted = await mountAll(scenario)
    expect(await readEach(scenario)).toEqual(scenario.disks.map((disk) => disk.sha256))
    await releaseAll(scenario)
    await expectNothingLeft(scenario, mounted)
  })
})
