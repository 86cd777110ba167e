import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../domain/blocks.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { BlockHashes } from './block-hashes.ts'
import { BlockHashesWriter } from './block-hashes-writer.ts'
import { sealContainer } from './container-checksums.ts'
import { dataRuns } from './parent-data.ts'

/** 256 GiB. */
const blocks = 256 * 4_096

async function hashesWith(dataBlocks: readonly number[]): Promise<BlockHashes> {
  const folder = await temporaryFolder()
  const [image, path] = [join(folder, 'disk-0.qcow2'), join(folder, 'disk-0.blocks')]
  const diskSizeBytes = blocks * BLOCK_SIZE_BYTES
  const writer = await BlockHashesWriter.create(path, diskSizeBytes)
  for (const index of dataBlocks) await writer.set(index, Buffer.alloc(32, 1))
  await writer.sync()
  await writer.close()
  await writeFile(image, 'any')
  await sealContainer({ image, blocks: path }, diskSizeBytes)
  const hashes = await BlockHashes.open(path)
  onTestFinished(() => hashes.close())
  return hashes
}

it('finds the blocks that hold data', async () => {
  const dataBlocks = [0, 5, 6, 7, 4_095, 4_096, 4_097, 9_000, blocks - 2, blocks - 1]
  const hashes = await hashesWith(dataBlocks)
  const found = async (from: number, count: number): Promise<number[]> => {
    const indexes: number[] = []
    for await (const run of dataRuns(hashes, from, count)) {
      for (let index = run.firstIndex; index < run.firstIndex + run.count; index++) indexes.push(index)
    }
    return indexes
  }
  expect(await found(0, blocks + 100)).toEqual(dataBlocks)
  expect(await found(6, 4_091)).toEqual([6, 7, 4_095, 4_096])
  expect(await found(blocks, 10)).toEqual([])
})

it('passes over long runs of zeroes quickly, also in several lanes at once', { timeout: 10_000 }, async () => {
  const hashes = await hashesWith([])
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < blocks) {
      const first = next
      next += 4_096
      for await (const run of dataRuns(hashes, first, 4_096)) expect.unreachable(`data at ${run.firstIndex}`)
    }
  }
  await Promise.all(Array.from({ length: 16 }, lane))
})
