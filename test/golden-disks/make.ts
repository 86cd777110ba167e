/** Makes golden disks: tables and empty file systems on this host, then one machine that fills them all. */
import { join } from 'node:path'
import { MIB } from '../disk-backups.ts'
import { runInUml } from '../uml-machine.ts'
import type { DiskRecipe, GoldenDisk, GoldenVolume } from './golden-disk.ts'
import { layOut, writeLayout, type PlacedPartition } from './layout.ts'
import { goldenEntries } from './planned-file.ts'
import { writePlan } from './written-plan.ts'

/** Makes the disks in a folder, which keeps also what was written to them. Needs Debian's `user-mode-linux`, `e2fsprogs` … and no privileges. */
export async function makeGoldenDisks(folder: string, recipes: readonly DiskRecipe[]): Promise<GoldenDisk[]> {
  const disks: GoldenDisk[] = []
  // What is written later than it must be makes a journal needed.
  const script: string[] = ['echo 0 >/proc/sys/vm/dirty_writeback_centisecs']
  for (const [index, recipe] of recipes.entries()) {
    const path = imagePath(folder, recipe)
    const layout = layOut(recipe)
    disks.push(goldenDisk(path, recipe, layout))
    await writeLayout(path, recipe, layout)
    const device = `/dev/ubd${String.fromCharCode(97 + index)}`
    let plans = 0
    const write = (planned: Parameters<typeof writePlan>[1], mountedAt: string): Promise<string> =>
      writePlan(`${path}-${plans++}`, planned, mountedAt)
    for (const partition of layout.partitions) script.push(...(await fillPartition(device, partition, write)))
    if (recipe.script) script.push(await recipe.script(device, write))
  }
  await runInUml({ script: script.join('\n'), disks: disks.map((disk) => disk.path), folder, timeoutMs: 300_000 })
  return disks
}

/** What {@link makeGoldenDisks} has made in that folder, told from the recipes alone. */
export function describeGoldenDisks(folder: string, recipes: readonly DiskRecipe[]): GoldenDisk[] {
  return recipes.map((recipe) => goldenDisk(imagePath(folder, recipe), recipe, layOut(recipe)))
}

function goldenDisk(path: string, recipe: DiskRecipe, { partitions, sizeMib }: ReturnType<typeof layOut>): GoldenDisk {
  const own = partitions.flatMap((partition) => volumeOn(partition) ?? [])
  return { name: recipe.name, path, sizeBytes: sizeMib * MIB, volumes: [...own, ...(recipe.volumes ?? [])] }
}

function imagePath(folder: string, { name }: DiskRecipe): string {
  return join(folder, `${name}.raw`)
}

async function fillPartition(
  disk: string,
  { recipe, number }: PlacedPartition,
  write: (planned: NonNullable<typeof recipe.files>, mountedAt: string) => Promise<string>,
): Promise<string[]> {
  if (recipe.mount === undefined) return []
  const device = number === 0 ? disk : `${disk}${number}`
  const at = `/mnt/${device.slice('/dev/'.length)}`
  const mounting = [`mkdir ${at}`, `${recipe.mount} ${device} ${at}`, await write(recipe.files ?? [], at)]
  // File by file: to sync the whole of it would also bring home what the journal holds.
  return [...mounting, recipe.dirty === true ? `find ${at} -type f,d -exec sync {} +` : `umount ${at}`]
}

function volumeOn({ recipe, number }: PlacedPartition): GoldenVolume | null {
  if (recipe.volume === null) return null
  const written = recipe.keeps && recipe.files ? goldenEntries(recipe.files, recipe.keeps) : null
  const entries = written && [...written, ...(recipe.inherent ?? [])]
  return { ...recipe.volume, id: number === 0 ? 'disk' : `partition-${number}`, entries }
}
