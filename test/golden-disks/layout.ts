/** Where partitions lie, and the image with them: made on this host, without privileges. */
import { rm, truncate, writeFile } from 'node:fs/promises'
import { runTool } from '../../tools/run-tool.ts'
import { MIB, writeImage } from '../disk-backups.ts'
import type { DiskRecipe, PartitionRecipe } from './golden-disk.ts'

const timeoutMs = 60_000
const SECTOR_BYTES = 512

export interface PlacedPartition {
  recipe: PartitionRecipe
  /** As the kernel numbers it; 0 for the whole disk. */
  number: number
  startMib: number
}

export interface Layout {
  partitions: PlacedPartition[]
  sizeMib: number
}

/** One MiB before each, where a logical one has its table; primary ones of an MBR come first, then the extended one with the rest. */
export function layOut({ table, partitions }: DiskRecipe): Layout {
  if (table === null) return { partitions: [{ recipe: partitions[0]!, number: 0, startMib: 0 }], sizeMib: partitions[0]!.sizeMib }
  let endMib = 1
  let number = 0
  const placed = partitions.map((recipe) => {
    number = recipe.logical === true ? Math.max(5, number + 1) : number + 1
    const startMib = endMib + 1
    endMib = Math.ceil(startMib + recipe.sizeMib)
    return { recipe, number, startMib }
  })
  return { partitions: placed, sizeMib: endMib + 2 }
}

/** Writes the table and what this host can make of the partitions. */
export async function writeLayout(path: string, recipe: DiskRecipe, layout: Layout): Promise<void> {
  await writeFile(path, '')
  await truncate(path, layout.sizeMib * MIB)
  if (recipe.table !== null) await runTool('sfdisk', ['--quiet', path], { timeoutMs, input: tableOf(recipe, layout) })
  for (const partition of layout.partitions) await formatPartition(path, partition)
}

function tableOf({ table }: DiskRecipe, { partitions, sizeMib }: Layout): string {
  const lines = [`label: ${table}`]
  const logical = partitions.find(({ recipe }) => recipe.logical === true)
  for (const partition of partitions) {
    if (partition === logical)
      lines.push(`4: start=${sectors(partition.startMib - 1)}, size=${sectors(sizeMib - partition.startMib)}, type=extended`)
    lines.push(
      `${partition.number}: start=${sectors(partition.startMib)}, size=${sectors(partition.recipe.sizeMib)}, type=${partition.recipe.type ?? 'linux'}`,
    )
  }
  return `${lines.join('\n')}\n`
}

function sectors(mib: number): number {
  return (mib * MIB) / SECTOR_BYTES
}

async function formatPartition(path: string, { recipe, startMib }: PlacedPartition): Promise<void> {
  const image = `${path}.partition`
  await writeFile(image, '')
  await truncate(image, recipe.sizeMib * MIB)
  const [program, ...args] = recipe.format ?? []
  if (program !== undefined) await runTool(program, [...args, image], { timeoutMs })
  await writeImage(image, recipe.sizeMib * MIB, [...(recipe.bytes ?? [])])
  const copy = [`if=${image}`, `of=${path}`, 'bs=1M', `seek=${startMib}`, 'conv=sparse,notrunc', 'status=none']
  await runTool('dd', copy, { timeoutMs })
  await rm(image)
}
