/**
 * What every driver must do with the disks of backups. A new member passes this suite: `describeDriver('kernel', …)`. It takes golden disks, made with
 * the tools that file systems come with, backs them up as Holdfast does, and compares what the driver reads with what was written.
 */
import { afterAll, beforeAll, describe } from 'vitest'
import { goldenRecipes, LEVELS, MANY, sharedGoldenDisks } from '../test/golden-disks/shared.ts'
import { requireTool } from '../test/requires.ts'
import { createTemporaryFolder } from '../test/temporary-folder.ts'
import { benchOf, type Bench, type DriverSkills } from './conformance-bench.ts'
import { describeChains, describeDamage, describeExtremes, describeJournals, describeUnreadable } from './conformance-disks.ts'
import { describeFiles } from './conformance-files.ts'
import { describeVolumes } from './conformance-volumes.ts'
import type { OpenRestoreMount } from './restore-mount.ts'

export interface DriverUnderTest {
  openMount: OpenRestoreMount
  /** Ends what the driver keeps besides its mounts. */
  cleanUp(): Promise<void>
}

const MAKING_MS = 300_000

/** Declares the suite. `makeDriver` is called once; what it made is cleaned up in the end. */
export function describeDriver(name: string, skills: DriverSkills, makeDriver: () => Promise<DriverUnderTest>): void {
  const beyond = new Set([...(skills.volumeManagers ? [] : ['lvm', 'raid']), ...(skills.journals ? [] : ['dirty'])])
  const recipes = goldenRecipes.filter((recipe) => !beyond.has(recipe.name))

  describe(`driver ${name}`, () => {
    for (const program of golden) requireTool(program)
    let storage: Awaited<ReturnType<typeof createTemporaryFolder>> | undefined
    let driver: DriverUnderTest | undefined
    let bench: Bench
    beforeAll(async () => {
      storage = await createTemporaryFolder()
      const disks = await sharedGoldenDisks(MAKING_MS)
      driver = await makeDriver()
      bench = benchOf(storage.path, disks, skills, driver.openMount)
    }, MAKING_MS)
    afterAll(async () => {
      await driver?.cleanUp()
      await storage?.remove()
    })
    const current = (): Bench => bench

    for (const recipe of recipes.filter((one) => one.name !== 'noise' && one.name !== 'extreme'))
      describeVolumes(recipe.name, current)
    if (skills.journals) describeJournals(current)
    describeFiles(current)
    describeDamage(current)
    describeExtremes(current, MANY, LEVELS)
    describeChains(current)
    describeUnreadable(current)
  })
}

/** What makes the disks. */
const golden = [
  'linux.uml',
  'mkfs.ext4',
  'mkfs.xfs',
  'mkfs.btrfs',
  'mkfs.vfat',
  'mkfs.exfat',
  'mkntfs',
  'mkudffs',
  'cryptsetup',
  'lvm',
  'mdadm',
]
