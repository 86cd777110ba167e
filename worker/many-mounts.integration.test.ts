/** Many mounts at once, released in any order, leave nothing behind. The full number is mounted in `npm run test:faults`. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectNothingLeft, mountAll, readEach, releaseAll } from '../test/many-mounts.ts'
import { createMountScenario } from '../test/mount-scenario.ts'
import type { MountScenario } from '../test/mount-scenario.ts'
import { requireTool } from '../test/requires.ts'

requireTool('qemu-nbd')
requireTool('linux.uml')
requireTool('bwrap')

let scenario: MountScenario

beforeAll(async () => {
  scenario = await createMountScenario({ disks: 3, fileBytes: 1024 ** 2 })
})

afterAll(() => scenario?.close())

test('three disks, mounted and released in random order', async () => {
  const mounted = await mountAll(scenario)
  expect(mounted.programs.length, 'an exporter and a reader of each').toBeGreaterThanOrEqual(2 * scenario.disks.length)
  expect(await readEach(scenario)).toEqual(scenario.disks.map((disk) => disk.sha256))
  await releaseAll(scenario)
  await expectNothingLeft(scenario, mounted)
})
