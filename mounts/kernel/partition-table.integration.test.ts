import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { MIB, writeImage } from '../../test/disk-backups.ts'
import { requireTool } from '../../test/requires.ts'
import { temporaryFolder } from '../../test/temporary-folder.ts'
import { runTool } from '../../tools/run-tool.ts'
import { readPartitionTable, type PartitionTable } from './partition-table.ts'

requireTool('sfdisk')

const SECTOR = 512

async function readImage(path: string): Promise<PartitionTable | null> {
  const file = await open(path, 'r')
  try {
    const { size } = await file.stat()
    const read = async (offset: number, length: number): Promise<Buffer> => {
      return (await file.read(Buffer.alloc(length), 0, length, offset)).buffer
    }
    return await readPartitionTable({ read, sizeBytes: size })
  } finally {
    await file.close()
  }
}

interface SfdiskPartition {
  node: string
  start: number
  size: number
  type: string
  name?: string
}

/** What sfdisk says, in our words; extended partitions hold nothing themselves. */
async function toldBySfdisk(path: string): Promise<PartitionTable['partitions']> {
  const { stdout } = await runTool('sfdisk', ['--json', path], { timeoutMs: 30_000 })
  const { partitiontable }: { partitiontable: { partitions: SfdiskPartition[] } } = JSON.parse(stdout)
  return partitiontable.partitions
    .filter(({ type }) => type !== '5' && type !== 'f')
    .map(({ node, start, size, type, name = '' }) => {
      const place = { offsetBytes: start * SECTOR, sizeBytes: size * SECTOR }
      const told = type.length > 2 ? type.toLowerCase() : `0x${type}`
      return { number: Number(node.slice(path.length)), ...place, name, type: told }
    })
}

it.each([
  { kind: 'mbr', script: 'label: dos\nsize=4M, type=83, bootable\nsize=2M, type=7\nsize=1M, type=82\ntype=83\n' },
  { kind: 'mbr', script: 'label: dos\nsize=4M, type=83\nsize=30M, type=f\nsize=2M, type=83\nsize=3M, type=7\ntype=83\n' },
  {
    kind: 'gpt',
    script:
      'label: gpt\nsize=1M, name="EFI system"\nsize=5M\n7: size=2M, name="näme"\n100: size=2M, name="the last one of all that may be here"\n',
  },
])('reads what sfdisk wrote: $script', async ({ kind, script }) => {
  const path = join(await temporaryFolder(), 'disk-')
  await writeImage(path, 64 * MIB, [])
  await runTool('sfdisk', ['--quiet', path], { timeoutMs: 30_000, input: script })
  const table = await readImage(path)
  expect(table).toEqual({ kind, announced: true, note: '', partitions: await toldBySfdisk(path) })
  expect(table?.partitions.length).toBeGreaterThan(3)
})
