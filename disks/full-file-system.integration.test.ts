/** A file system that fills up in the middle of a write takes a part of it: that part is never taken for the whole. */
import { mkdir, open, readFile, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it, onTestFinished, type TestContext } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../domain/blocks.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { runTool } from '../tools/run-tool.ts'
import { digestPosition } from './block-hashes.ts'
import { BlockHashesWriter } from './block-hashes-writer.ts'
import { sealContainer } from './container-checksums.ts'
import { writeFully } from './positional-io.ts'

/** A file system of 8 MiB of its own. */
async function smallFileSystem(skip: TestContext['skip']): Promise<string> {
  const folder = join(await temporaryFolder(), 'small')
  await mkdir(folder)
  await runTool('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', folder], { timeoutMs: 10_000 }).catch(() =>
    skip('needs the right to mount a file system'),
  )
  onTestFinished(async () => void (await runTool('umount', ['--lazy', folder], { timeoutMs: 10_000 })))
  return folder
}

async function fillBut(folder: string, spareBytes: number): Promise<() => Promise<void>> {
  const { bavail, bsize } = await statfs(folder)
  const filler = join(folder, 'filler')
  await writeFile(filler, Buffer.alloc(bavail * bsize - spareBytes))
  return () => rm(filler)
}

it('fails the whole write', async ({ skip }) => {
  const folder = await smallFileSystem(skip)
  const file = await open(join(folder, 'file'), 'w')
  onTestFinished(() => file.close())
  await fillBut(folder, 16_384)
  await expect(writeFully(file, Buffer.alloc(100_000, 1), 0)).rejects.toMatchObject({ code: 'ENOSPC' })
})

it.for([0, 16_384])(
  'does not sync digests that found no room, not even when there is some again (%i bytes left)',
  async (spare) => {
    // `it.each` gives no context; without the right to mount there is nothing to see here.
    const folder = await smallFileSystem(() => expect.unreachable('needs the right to mount a file system'))
    const path = join(folder, 'disk-0.blocks')
    const writer = await BlockHashesWriter.create(path, 4_096 * BLOCK_SIZE_BYTES)
    onTestFinished(() => writer.close())
    const digest = Buffer.alloc(32, 0xaa)
    await writer.set(0, digest)
    await writer.sync()
    const makeRoom = await fillBut(folder, spare)
    const setting = (async () => {
      for (let index = 1; index < 3_000; index++) await writer.set(index, digest)
      await writer.sync()
    })()
    await expect(setting).rejects.toMatchObject({ code: 'ENOSPC' })
    await makeRoom()
    await expect(writer.sync()).rejects.toMatchObject({ code: 'ENOSPC' })
    expect((await readFile(path)).subarray(digestPosition(0), digestPosition(1))).toEqual(digest)
  },
)

it('does not seal with checksums that found no room', async ({ skip }) => {
  const folder = await smallFileSystem(skip)
  const [image, blocks] = [join(await temporaryFolder(), 'disk-0.qcow2'), join(folder, 'disk-0.blocks')]
  const writer = await BlockHashesWriter.create(blocks, BLOCK_SIZE_BYTES)
  await writer.close()
  const file = await open(image, 'w')
  // 4 400 bytes of checksums, of which the file's first page takes a part.
  await file.truncate(1_100 * 1024 * 1024)
  await file.close()
  await fillBut(folder, 0)
  await expect(sealContainer({ image, blocks }, BLOCK_SIZE_BYTES)).rejects.toMatchObject({ code: 'ENOSPC' })
  expect((await readFile(blocks)).readBigUInt64LE(48)).toBe(0n)
})
