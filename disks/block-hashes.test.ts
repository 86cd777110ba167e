import { createHash } from 'node:crypto'
import { readFile, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { BLOCK_SIZE_BYTES, blockCount } from '../domain/blocks.ts'
import { noise } from '../test/disk-backups.ts'
import { failureOf } from '../test/failure.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import {
  BlockHashes,
  blocksFileSize,
  digestPosition,
  encodeBlocksHeader,
  hashBlocksFile,
  parseBlocksHeader,
  REGION_SIZE_BYTES,
  ZERO_DIGEST,
} from './block-hashes.ts'
import { BlockHashesWriter, isResumable } from './block-hashes-writer.ts'
import { sealContainer } from './container-checksums.ts'

/** Large enough for several windows and pages: 40 000 blocks, 10 GiB. */
const diskSizeBytes = 40_000 * BLOCK_SIZE_BYTES - 512
const digestOf = (index: number): Buffer => createHash('sha256').update(String(index)).digest()

async function sealedFile(): Promise<{ path: string; image: Buffer }> {
  const folder = await temporaryFolder()
  const [path, imagePath] = [join(folder, 'disk-0.blocks'), join(folder, 'disk-0.qcow2')]
  const writer = await BlockHashesWriter.create(path, diskSizeBytes)
  // Nearly in order, as lanes do it; every third block is zero.
  for (let start = 0; start < 40_000; start += 16) {
    const indexes = Array.from({ length: 16 }, (_, index) => start + ((index * 7) % 16)).filter((index) => index % 3 !== 0)
    await Promise.all(indexes.map((index) => writer.set(index, digestOf(index))))
  }
  await writer.sync()
  await writer.close()
  const image = noise(2 * REGION_SIZE_BYTES + 100, 1)
  await writeFile(imagePath, image)
  await sealContainer({ image: imagePath, blocks: path }, diskSizeBytes)
  return { path, image }
}

async function opened(path: string): Promise<BlockHashes> {
  const hashes = await BlockHashes.open(path)
  onTestFinished(() => hashes.close())
  return hashes
}

it('gives back every digest, in any order', async () => {
  const { path } = await sealedFile()
  const hashes = await opened(path)
  expect(hashes).toMatchObject({ diskSizeBytes, blockCount: 40_000, regionCount: 3 })
  for (let step = 0; step < 40_000; step += 37) {
    const index = (step * 7_919) % 40_000
    const expected = index % 3 === 0 ? ZERO_DIGEST : digestOf(index)
    expect((await hashes.digest(index)).equals(expected), `block ${index}`).toBe(true)
  }
  expect(await hashes.digest(40_000)).toBe(ZERO_DIGEST)
  const some = Buffer.alloc(3 * 32)
  await hashes.readDigests(2_047, some)
  expect(some).toEqual(Buffer.concat([digestOf(2_047), digestOf(2_048), ZERO_DIGEST]))
})

it('has a hash root over the whole file', async () => {
  const { path } = await sealedFile()
  expect(await hashBlocksFile(path)).toBe(
    createHash('sha256')
      .update(await readFile(path))
      .digest('hex'),
  )
})

it('goes on from a block and forgets what came after it', async () => {
  const { path } = await sealedFile()
  expect(await isResumable(path, diskSizeBytes, 5_000)).toBe(true)
  const writer = await BlockHashesWriter.resume(path, diskSizeBytes, 5_000)
  await writer.set(5_000, digestOf(1))
  await writer.sync()
  await writer.close()
  const bytes = await readFile(path)
  const at = (index: number): Buffer => bytes.subarray(64 + index * 32, 96 + index * 32)
  expect(bytes.length).toBe(blocksFileSize({ diskSizeBytes, regionCount: 0 }))
  expect([at(4_999), at(5_000), at(5_002)]).toEqual([digestOf(4_999), digestOf(1), ZERO_DIGEST])
  expect((await failureOf(BlockHashes.open(path))).message).toContain('never finished')
})

it('takes over runs of digests', async () => {
  const parent = await sealedFile()
  const path = join(await temporaryFolder(), 'disk-0.blocks')
  const hashes = await opened(parent.path)
  const writer = await BlockHashesWriter.create(path, diskSizeBytes)
  await writer.copyFrom(hashes, 0, 40_000)
  await writer.sync()
  await writer.close()
  const digests = (file: Buffer): Buffer => file.subarray(64, 64 + 40_000 * 32)
  expect(digests(await readFile(path)).equals(digests(await readFile(parent.path)))).toBe(true)
})

it('is not resumable for another disk, or when cut short', async () => {
  const { path } = await sealedFile()
  expect(await isResumable(path, diskSizeBytes + 512, 0)).toBe(false)
  expect(await isResumable(`${path}.none`, diskSizeBytes, 0)).toBe(false)
  // As a crash leaves it between the steps of going on: only what is behind the checkpoint is missing.
  await truncate(path, digestPosition(1_000))
  expect(await isResumable(path, diskSizeBytes, 1_000)).toBe(true)
  expect(await isResumable(path, diskSizeBytes, 1_001)).toBe(false)
  await truncate(path, 63)
  expect(await isResumable(path, diskSizeBytes, 0)).toBe(false)
  // Not a file that can be read at all: nothing is known about the digests.
  await expect(isResumable(join(path, 'below'), diskSizeBytes, 0)).rejects.toMatchObject({ code: 'ENOTDIR' })
})

it.each<[string, (bytes: Buffer) => Buffer, RegExp]>([
  ['is too short', (bytes) => bytes.subarray(0, 63), /not a blocks file/],
  ['has another magic', (bytes) => (bytes.write('X'), bytes), /not a blocks file/],
  ['has another version', (bytes) => (bytes.writeUInt32LE(2, 8), bytes), /version is 2/],
  ['claims another block size', (bytes) => (bytes.writeUInt32LE(65_536, 12), bytes), /contradicts itself/],
  ['claims a giant disk', (bytes) => (bytes.writeBigUInt64LE(1n << 52n, 24), bytes), /contradicts itself/],
  ['claims more than numbers hold', (bytes) => (bytes.writeBigUInt64LE((1n << 64n) - 1n, 24), bytes), /beyond belief/],
  ['claims more regions', (bytes) => (bytes.writeBigUInt64LE(9n, 48), bytes), /its header says/],
  ['has lost its end', (bytes) => bytes.subarray(0, -1), /its header says/],
  ['has grown', (bytes) => Buffer.concat([bytes, Buffer.of(0)]), /its header says/],
])('refuses a file that %s', async (_what, damage, message) => {
  const { path } = await sealedFile()
  await writeFile(path, damage(await readFile(path)))
  const error = await failureOf(BlockHashes.open(path))
  expect(error).toMatchObject({ code: 'BACKUP_CORRUPT', retryable: false, details: { path } })
  expect(error.message).toMatch(message)
})

it('refuses what is missing, a link or a folder', async () => {
  const { path } = await sealedFile()
  await symlink(path, `${path}.link`)
  for (const [name, message] of [
    [`${path}.none`, /missing/],
    [`${path}.link`, /not a regular file/],
    [join(path, '..'), /not a regular file/],
  ] as const) {
    const error = await failureOf(BlockHashes.open(name))
    expect(error.code).toBe('BACKUP_CORRUPT')
    expect(error.message).toMatch(message)
  }
})

it('writes the header it reads', () => {
  for (const sizeBytes of [0, 512, BLOCK_SIZE_BYTES, 16 * 1024 ** 4]) {
    const header = { diskSizeBytes: sizeBytes, regionCount: 5 }
    expect(parseBlocksHeader(encodeBlocksHeader(header), blocksFileSize(header))).toEqual(header)
    expect(blocksFileSize(header)).toBe(64 + blockCount(sizeBytes) * 32 + 20)
  }
})
