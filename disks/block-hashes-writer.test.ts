/** What is set before a sync is in the file after it, whatever else goes on. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../domain/blocks.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { digestPosition } from './block-hashes.ts'
import { BlockHashesWriter } from './block-hashes-writer.ts'

const blocks = 64 * 4_096
const digestOf = (index: number): Buffer => createHash('sha256').update(String(index)).digest()

async function begun(): Promise<{ writer: BlockHashesWriter; missing: (indexes: Iterable<number>) => Promise<number[]> }> {
  const path = join(await temporaryFolder(), 'disk-0.blocks')
  const writer = await BlockHashesWriter.create(path, blocks * BLOCK_SIZE_BYTES)
  onTestFinished(() => writer.close())
  const missing = async (indexes: Iterable<number>): Promise<number[]> => {
    const bytes = await readFile(path)
    return [...indexes].filter(
      (index) => !bytes.subarray(digestPosition(index), digestPosition(index + 1)).equals(digestOf(index)),
    )
  }
  return { writer, missing }
}

it('keeps digests that arrive together for places far apart', async () => {
  const { writer, missing } = await begun()
  const early = [1, 2_049, 4_097, 6_145]
  for (const index of early) await writer.set(index, digestOf(index))
  await writer.sync()
  await Promise.all([writer.set(9 * 2_048, digestOf(9 * 2_048)), writer.set(7, digestOf(7))])
  await writer.sync()
  expect(await missing([...early, 9 * 2_048, 7])).toEqual([])
})

it('has on file what was set before a sync, while lanes go on all over the disk', async () => {
  const { writer, missing } = await begun()
  const set = new Set<number>()
  let next = 0
  const lane = async (): Promise<void> => {
    for (let step = 0; step < 700; step++) {
      const index = (next++ * 104_729) % blocks
      await writer.set(index, digestOf(index))
      set.add(index)
    }
  }
  const lanes = Promise.all(Array.from({ length: 16 }, lane))
  const progress = { ended: false }
  const finished = lanes.finally(() => (progress.ended = true))
  while (!progress.ended) {
    const before = [...set]
    await writer.sync()
    expect(await missing(before)).toEqual([])
  }
  await finished
  await writer.sync()
  expect(await missing(set)).toEqual([])
  expect(set.size).toBe(16 * 700)
})
