/** Golden disks for a whole run of the tests: who needs them first makes them, the others read the same images. Nobody may write to them. */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inject } from 'vitest'
import { holdingRestore } from '../../activities/attempt-lock.ts'
import { foreignDisk, noiseDisk } from './foreign-disks.ts'
import type { DiskRecipe, GoldenDisk } from './golden-disk.ts'
import { dirtyDisk, extremeDisk, gptDisk, mbrDisk, wholeDisk } from './linux-disks.ts'
import { describeGoldenDisks, makeGoldenDisks } from './make.ts'
import { thirdPartyDisk } from './third-party-disk.ts'
import { lvmDisk, raidDisk } from './volume-manager-disks.ts'

/** Of the extreme disk: files in one folder, and folders in each other. */
export const MANY = 100_000
export const LEVELS = 10_000
const MADE = 'made'

/** The dirty one is the last: what comes after it would write home what only its journals hold. */
export const goldenRecipes: readonly DiskRecipe[] = [
  wholeDisk,
  gptDisk,
  mbrDisk,
  foreignDisk,
  thirdPartyDisk,
  noiseDisk,
  extremeDisk(MANY, LEVELS),
  lvmDisk,
  raidDisk,
  dirtyDisk,
]

/** All of {@link goldenRecipes}. Waits at most `timeoutMs` for another test file that makes them. */
export async function sharedGoldenDisks(timeoutMs: number): Promise<GoldenDisk[]> {
  const folder = inject('goldenDisksFolder')
  // The lock is one that the kernel takes back when its holder dies.
  return holdingRestore(folder, () => madeOnce(folder), { patienceMs: timeoutMs })
}

async function madeOnce(folder: string): Promise<GoldenDisk[]> {
  const names = await readdir(folder).catch((): string[] => [])
  if (names.includes(MADE)) return describeGoldenDisks(folder, goldenRecipes)
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder)
  const disks = await makeGoldenDisks(folder, goldenRecipes)
  await writeFile(join(folder, MADE), '')
  return disks
}
