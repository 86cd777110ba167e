/** All disks of a scenario mounted at once, and the search for what that left behind. */
import { expect } from 'vitest'
import { sha256Of } from './mount-campaign.ts'
import type { MountedDisk, MountScenario } from './mount-scenario.ts'
import { deviceOf, loopsOn, mountRows, programsOfMount, runFoldersOfMounts, tracesOnHost } from './mount-traces.ts'
import { stillRunning } from './process-tree.ts'
import type { SeenProcess } from './process-tree.ts'

/** Mounts that are opened or released at a time: what several people would do. */
const AT_A_TIME = 4

export interface Mounted {
  programs: SeenProcess[]
  /** Device numbers of the exported files. */
  devices: Set<string>
}

/** In random order, until all are mounted. */
export async function mountAll(scenario: MountScenario): Promise<Mounted> {
  await inRandomOrder(scenario.disks, (disk) => scenario.mount(disk))
  const { holdfast, disks } = scenario
  const programs: SeenProcess[] = []
  for (const disk of disks) programs.push(...(await programsOfMount(holdfast.pid('mover'), disk.mountId)))
  const rows = await holdfast.catalog.selectFrom('restore_mounts').select(['status', 'nbd_device']).execute()
  expect(rows.map((row) => row.status)).toEqual(disks.map(() => 'mounted'))
  return { programs, devices: new Set(await Promise.all(rows.map((row) => deviceOf(row.nbd_device)))) }
}

/** SHA-256 of every disk's file, through the API. */
export async function readEach(scenario: MountScenario): Promise<string[]> {
  const sums: string[] = []
  for (const disk of scenario.disks) sums.push(await sha256Of(await scenario.download(disk)))
  return sums
}

export async function releaseAll(scenario: MountScenario): Promise<void> {
  await inRandomOrder(scenario.disks, (disk) => scenario.release(disk))
}

/** A release answers when nothing is left; only rows that tell so follow within moments. */
export async function expectNothingLeft({ holdfast }: MountScenario, { programs, devices }: Mounted): Promise<void> {
  expect(await stillRunning(programs), 'processes').toEqual([])
  expect(await tracesOnHost(holdfast.home), 'processes and mounts').toEqual([])
  expect(await runFoldersOfMounts(holdfast.home), 'folders').toEqual([])
  // Numbers of devices that are gone are given away again, to mounts of other tests as well.
  await expect.poll(() => loopsOn(devices), { message: 'loop devices' }).toEqual([])
  await expect.poll(() => mountRows(holdfast.catalog), { message: 'rows' }).toEqual([])
}

async function inRandomOrder(disks: readonly MountedDisk[], act: (disk: MountedDisk) => Promise<void>): Promise<void> {
  const left = shuffled(disks)
  const next = async (): Promise<void> => {
    for (let disk = left.pop(); disk; disk = left.pop()) await act(disk)
  }
  await Promise.all(Array.from({ length: AT_A_TIME }, next))
}

function shuffled<Item>(items: readonly Item[]): Item[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)
}
