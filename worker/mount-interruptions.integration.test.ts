/** kill -9 of what a restore mount consists of, in the middle of a download: the client hears of it, nothing stays, and the mount comes back. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectRecovered, killDuringDownload } from '../test/mount-campaign.ts'
import { createMountScenario } from '../test/mount-scenario.ts'
import type { MountScenario } from '../test/mount-scenario.ts'
import { requireTool } from '../test/requires.ts'

requireTool('qemu-nbd')
requireTool('linux.uml')
requireTool('bwrap')

const FILE_BYTES = 64 * 1024 ** 2

let scenario: MountScenario

beforeAll(async () => {
  scenario = await createMountScenario({ disks: 1, fileBytes: FILE_BYTES })
  await scenario.mount(scenario.disks[0]!)
})

afterAll(() => scenario?.close())

test.each(['exporter', 'reader', 'mover'] as const)('of the %s', async (victim) => {
  const disk = scenario.disks[0]!
  const { brokenAfterMs, bytes } = await killDuringDownload(scenario, disk, { victim, afterBytes: FILE_BYTES / 8 })

  expect(brokenAfterMs).toBeLessThan(5_000)
  expect(bytes).toBeLessThan(FILE_BYTES)
  await expectRecovered(scenario, disk)
})
