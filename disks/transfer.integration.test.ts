import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { BLOCK_SIZE_BYTES, blockCount } from '../domain/blocks.ts'
import { backUpImage, MIB, noise, prose, publish, transferRequest, writeImage } from '../test/disk-backups.ts'
import { failureOf } from '../test/failure.ts'
import { output, startNbdkit, startPlainQemuNbd } from '../test/nbd-programs.ts'
import { requireTool } from '../test/requires.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { checkImage, compareImages } from '../tools/qemu-img.ts'
import { BlockHashes, ZERO_DIGEST } from './block-hashes.ts'
import { blocksPath, checkChain, imagePath, type ChainLink } from './chain.ts'
import { findDamagedRegions } from './container-checksums.ts'
import { serveImage } from './serve.ts'
import { transferDisk, type TransferProgress } from './transfer.ts'

requireTool('nbdkit')
requireTool('qemu-nbd')

async function expectSameBytes(links: ChainLink[], raw: string): Promise<void> {
  expect(await compareImages(await checkChain(links), { path: raw, format: 'raw' })).toBe(true)
}

/** The blocks file against hashes computed here, from the raw image. */
async function expectHashesOf(link: ChainLink | undefined, raw: string): Promise<void> {
  if (!link) throw new TypeError('there is no such backup')
  const disk = await readFile(raw)
  const hashes = await BlockHashes.open(blocksPath(link))
  onTestFinished(() => hashes.close())
  expect(hashes.blockCount).toBe(blockCount(disk.length))
  for (let index = 0; index < hashes.blockCount; index++) {
    const block = disk.subarray(index * BLOCK_SIZE_BYTES, (index + 1) * BLOCK_SIZE_BYTES)
    const expected = block.equals(Buffer.alloc(block.length)) ? ZERO_DIGEST : createHash('sha256').update(block).digest()
    expect((await hashes.digest(index)).equals(expected), `block ${index}`).toBe(true)
  }
  for await (const region of findDamagedRegions(imagePath(link), hashes))
    expect.unreachable(`the region at ${region.offsetBytes} differs`)
}

describe.each(['zstd', 'none'] as const)('with compression %s', (compression) => {
  // The last one is odd in every respect: neither blocks nor clusters nor pages.
  it.each([8 * MIB, 3 * MIB + 65_536, MIB + 512])('copies a disk of %i bytes, then what changed', async (sizeBytes) => {
    const folder = await temporaryFolder()
    const raw = join(folder, 'disk.raw')
    await writeImage(raw, sizeBytes, [
      [0, noise(300_000, 1)],
      [600_000, prose(200_000, 2)],
      [sizeBytes - 700, noise(700, 3)],
    ])
    const full = await backUpImage({ folder, backupId: 'full', imagePath: raw, sizeBytes, compression })
    expect(full.result).toMatchObject({ processedBytes: sizeBytes, resumedAtBytes: 0 })
    await expectSameBytes(full.links, raw)
    await expectHashesOf(full.links.at(-1), raw)
    expect(await readdir(join(folder, 'full'))).toEqual(['disk-0.blocks', 'disk-0.qcow2'])

    await writeImage(raw, sizeBytes, [
      [100_000, Buffer.alloc(200_000)],
      [700_000, noise(1_000, 4)],
      [sizeBytes - 600, noise(600, 5)],
    ])
    const next = await backUpImage({ folder, backupId: 'next', imagePath: raw, sizeBytes, compression, parent: full.links })
    await expectSameBytes(next.links, raw)
    await expectHashesOf(next.links.at(-1), raw)
    expect(next.result.writtenBytes).toBeLessThan(full.result.writtenBytes)
  })

  it('hides what became zero, and writes nothing for what stayed', async () => {
    const folder = await temporaryFolder()
    const raw = join(folder, 'disk.raw')
    const sizeBytes = 8 * MIB
    await writeImage(raw, sizeBytes, [[0, prose(4 * MIB, 1)]])
    const full = await backUpImage({ folder, backupId: 'full', imagePath: raw, sizeBytes, compression })
    await writeImage(raw, sizeBytes, [[MIB, Buffer.alloc(MIB)]])
    // Punched out, so that the source says "zero" without being read.
    await output('fallocate', '--punch-hole', '--offset', String(2 * MIB), '--length', String(MIB), raw)
    const next = await backUpImage({ folder, backupId: 'next', imagePath: raw, sizeBytes, compression, parent: full.links })
    expect(next.result.writtenBytes).toBe(0)
    await expectSameBytes(next.links, raw)
    await expectHashesOf(next.links.at(-1), raw)
  })

  it('follows a disk that grew', async () => {
    const folder = await temporaryFolder()
    const raw = join(folder, 'disk.raw')
    await writeImage(raw, MIB + 512, [[MIB - 1_000, noise(1_512, 1)]])
    const full = await backUpImage({ folder, backupId: 'full', imagePath: raw, sizeBytes: MIB + 512, compression })
    const sizeBytes = 5 * MIB + 4_096
    await writeImage(raw, sizeBytes, [[4 * MIB, prose(MIB, 2)]])
    const next = await backUpImage({ folder, backupId: 'next', imagePath: raw, sizeBytes, compression, parent: full.links })
    expect(next.links).toHaveLength(2)
    await expectSameBytes(next.links, raw)
    await expectHashesOf(next.links.at(-1), raw)
  })
})

describe('with a dirty bitmap', () => {
  const sizeBytes = 8 * MIB

  async function trackedDisk(folder: string): Promise<string> {
    const path = join(folder, 'disk.qcow2')
    await output('qemu-img', 'create', '-q', '-f', 'qcow2', path, String(sizeBytes))
    await output('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 4M', path)
    return path
  }

  async function backUpChanges(
    folder: string,
    path: string,
    parent: ChainLink[],
  ): Promise<{ links: ChainLink[]; writtenBytes: number }> {
    const server = await startPlainQemuNbd('--read-only', '--shared=8', '--format=qcow2', '--bitmap=changes', path)
    const changes = { type: 'dirty-bitmap' as const, metaContext: 'qemu:dirty-bitmap:changes' }
    const backup = { folder, backupId: 'next', parent, source: { endpoint: server.endpoint, sizeBytes, changes } }
    const result = await transferDisk(await transferRequest(backup))
    await server.tool.stop(5_000)
    return { links: await publish(backup, result), writtenBytes: result.writtenBytes }
  }

  it('reads and writes only what is listed', async () => {
    const folder = await temporaryFolder()
    const path = await trackedDisk(folder)
    const full = await backUpImage({ folder, backupId: 'full', imagePath: path, sizeBytes, format: 'qcow2' })
    // A change behind the bitmap's back: whoever touched unlisted ranges would find it.
    await output('qemu-io', '-f', 'qcow2', '-c', 'write -P 7 3M 64k', path)
    await output('qemu-img', 'bitmap', '--add', '-f', 'qcow2', path, 'changes')
    await output('qemu-io', '-f', 'qcow2', '-c', 'write -P 2 1M 64k', '-c', 'write -z 2M 512k', '-c', 'write -P 3 6M 1k', path)
    const next = await backUpChanges(folder, path, full.links)
    expect(next.writtenBytes).toBe(2 * 65_536)
    // Undoing the hidden change makes the source what the backup must be.
    await output('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 3M 64k', path)
    expect(await compareImages(await checkChain(next.links), { path, format: 'qcow2' })).toBe(true)
  })

  it('refuses to guess when the bitmap is not served', async () => {
    const folder = await temporaryFolder()
    const path = await trackedDisk(folder)
    const full = await backUpImage({ folder, backupId: 'full', imagePath: path, sizeBytes, format: 'qcow2' })
    const served = await serveImage(path, 'qcow2', { runFolder: join(folder, 'run') })
    onTestFinished(() => served.close())
    const changes = { type: 'dirty-bitmap' as const, metaContext: 'qemu:dirty-bitmap:changes' }
    const source = { endpoint: served.endpoint, sizeBytes, changes }
    const request = await transferRequest({ folder, backupId: 'next', parent: full.links, source })
    expect(await failureOf(transferDisk(request))).toMatchObject({ code: 'SOURCE_CHANGED' })
  })
})

it('does not build on a parent whose block hashes were changed', async () => {
  const folder = await temporaryFolder()
  const raw = join(folder, 'disk.raw')
  await writeImage(raw, MIB, [[0, noise(MIB, 1)]])
  const full = await backUpImage({ folder, backupId: 'full', imagePath: raw, sizeBytes: MIB })
  await writeImage(join(folder, 'full/disk-0.blocks'), (await stat(join(folder, 'full/disk-0.blocks'))).size, [
    [70, Buffer.of(1, 2)],
  ])
  const error = await failureOf(backUpImage({ folder, backupId: 'next', imagePath: raw, sizeBytes: MIB, parent: full.links }))
  expect(error).toMatchObject({ code: 'CORRUPT_CHAIN', details: { backupId: 'full' }, retryable: false })
})

it('finds one flipped byte anywhere in the QCOW2 file', async () => {
  const folder = await temporaryFolder()
  const raw = join(folder, 'disk.raw')
  await writeImage(raw, 6 * MIB, [[0, noise(3 * MIB, 1)]])
  const { links } = await backUpImage({ folder, backupId: 'full', imagePath: raw, sizeBytes: 6 * MIB })
  const link = links[0]
  if (!link) throw new TypeError('there is no backup')
  const hashes = await BlockHashes.open(blocksPath(link))
  onTestFinished(() => hashes.close())
  const bytes = await readFile(imagePath(link))
  for (const offset of [0, 300, 65_535, 200_000, MIB, 2 * MIB + 17, bytes.length - 1]) {
    const flipped = Buffer.of((bytes[offset] ?? 0) ^ 0x10)
    await writeImage(imagePath(link), bytes.length, [[offset, flipped]])
    const found: number[] = []
    for await (const region of findDamagedRegions(imagePath(link), hashes)) found.push(region.offsetBytes)
    expect(found).toEqual([Math.floor(offset / MIB) * MIB])
    await writeImage(imagePath(link), bytes.length, [[offset, bytes.subarray(offset, offset + 1)]])
  }
  await writeImage(imagePath(link), bytes.length + 1, [])
  const longer: number[] = []
  for await (const region of findDamagedRegions(imagePath(link), hashes)) longer.push(region.offsetBytes)
  expect(longer).toEqual([Math.floor(bytes.length / MIB) * MIB])
})

it('copies an image that qemu-img agrees is sound, for an empty disk too', async () => {
  const folder = await temporaryFolder()
  const raw = join(folder, 'disk.raw')
  await writeImage(raw, 64 * MIB, [])
  const { links, result } = await backUpImage({ folder, backupId: 'full', imagePath: raw, sizeBytes: 64 * MIB })
  expect(result.writtenBytes).toBe(0)
  expect(await checkImage(join(folder, 'full/disk-0.qcow2'))).toEqual({ corruptions: 0, leaks: 0 })
  await expectSameBytes(links, raw)
})

it('backs up a source in very many pieces without taking them all into memory', async () => {
  const folder = await temporaryFolder()
  const diskBytes = 8 * 1024 * MIB
  // Data and holes in turn, every 4 KiB: two million extents.
  const server = await startNbdkit(
    'eval',
    `get_size=echo ${diskBytes}`,
    'can_extents=exit 0',
    'pread=head -c $3 /dev/zero',
    `extents=awk -v from=$4 -v length_=$3 'BEGIN { end = from + (length_ < 2^29 ? length_ : 2^29)
       for (at = from; at < end; at += 8192) printf "%d 4096\\n%d 4096 hole,zero\\n", at, at + 4096 }'`,
  )
  const source = { endpoint: server.endpoint, sizeBytes: diskBytes, changes: { type: 'compare-hashes' as const } }
  const request = await transferRequest({ folder, backupId: 'backup', source })
  const controller = new AbortController()
  const reason = new Error('it goes')
  const onProgress = ({ processedBytes }: TransferProgress): void => {
    if (processedBytes > 0) controller.abort(reason)
  }
  await expect(transferDisk(request, { signal: controller.signal, onProgress })).rejects.toBe(reason)
})
