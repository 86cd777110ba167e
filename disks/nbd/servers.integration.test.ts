/** The client against the servers it will meet, judged by programs that share no code with it. */
import { createHash, randomBytes } from 'node:crypto'
import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { freePort } from '../../dev/ports.ts'
import { output, startNbdkit, startPlainQemuNbd, startStorageDaemon, type RunningServer } from '../../test/nbd-programs.ts'
import { requireTool } from '../../test/requires.ts'
import { temporaryFolder } from '../../test/temporary-folder.ts'
import { compareImages } from '../../tools/qemu-img.ts'
import { startTool } from '../../tools/run-tool.ts'
import type { Extent } from './block-status.ts'
import { NbdConnection } from './nbd-connection.ts'
import { NbdPool, type NbdPoolOptions } from './nbd-pool.ts'

for (const program of ['qemu-nbd', 'qemu-img', 'qemu-io', 'qemu-storage-daemon', 'nbdkit', 'nbdcopy', 'nbdinfo'])
  requireTool(program)

const MIB = 1024 * 1024

async function openPool(server: RunningServer, options: Partial<NbdPoolOptions> = {}): Promise<NbdPool> {
  const pool = await NbdPool.open(server.endpoint, { connections: 4, ...options })
  onTestFinished(() => pool.close())
  return pool
}

/** Reads the whole disk with 16 requests of an odd size in flight, into one buffer. */
async function readAll(pool: NbdPool, requestBytes = 192 * 1024 + 512): Promise<Buffer> {
  const { sizeBytes } = pool.export
  const disk = Buffer.alloc(sizeBytes, 0x55)
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < sizeBytes) {
      const offset = next
      next += requestBytes
      const length = Math.min(requestBytes, sizeBytes - offset)
      await pool.read(offset, length, disk.subarray(offset, offset + length))
    }
  }
  await Promise.all(Array.from({ length: 16 }, lane))
  return disk
}

async function copiedByNbdcopy(server: RunningServer): Promise<Buffer> {
  const path = join(await temporaryFolder(), 'copy.raw')
  await output('nbdcopy', server.uri, path)
  return readFile(path)
}

async function listed(extents: AsyncIterable<Extent>): Promise<Extent[]> {
  const list: Extent[] = []
  for await (const extent of extents) list.push(extent)
  return list
}

/** The extents that nbdinfo sees, neighbours with equal flags joined as ours are. */
async function mappedByNbdinfo(server: RunningServer, context: string): Promise<Extent[]> {
  const rows: {
    offset: number
    length: number
    type: number
  }[] = JSON.parse(await output('nbdinfo', `--map=${context}`, '--json', server.uri))
  const extents: Extent[] = []
  for (const { offset, length, type } of rows) {
    const last = extents.at(-1)
    if (last?.flags === type) last.length += length
    else extents.push({ offset, length, flags: type })
  }
  return extents
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

async function rawImage(content: Buffer): Promise<string> {
  const path = join(await temporaryFolder(), 'disk.raw')
  await writeFile(path, content)
  return path
}

async function qcow2Image(sizeBytes: number): Promise<string> {
  const path = join(await temporaryFolder(), 'disk.qcow2')
  await output('qemu-img', 'create', '-q', '-f', 'qcow2', path, String(sizeBytes))
  return path
}

describe('reading is what nbdcopy reads', () => {
  test.each([false, true])('qemu-nbd, random data, an odd size (structured replies: %s)', async (structuredReplies) => {
    const content = randomBytes(9 * MIB + 512)
    const server = await startPlainQemuNbd('--read-only', '--format=raw', '--shared=8', await rawImage(content))
    const pool = await openPool(server, { structuredReplies })
    expect(pool.export).toMatchObject({ sizeBytes: content.length, readOnly: true, canMultiConn: true })
    expect(pool.connectionCount).toBe(4)
    expect(sha256(await readAll(pool))).toBe(sha256(content))
    expect(sha256(await copiedByNbdcopy(server))).toBe(sha256(content))
  })

  test.each([
    { structuredReplies: false, metaContexts: [] },
    { structuredReplies: true, metaContexts: [] },
    { connections: 1, metaContexts: ['base:allocation'] },
  ])('nbdkit sparse-random with %o', async (options) => {
    const server = await startNbdkit('sparse-random', 'size=96M', 'seed=42', 'percent=20', 'runlength=131072')
    const pool = await openPool(server, options)
    const expected = await copiedByNbdcopy(server)
    // The plugin's data depends on how a request is aligned to its 4 KiB blocks (qemu-io shows the same), so ours are aligned.
    expect(sha256(await readAll(pool, 192 * 1024))).toBe(sha256(expected))
  })

  test('qemu-storage-daemon over a sparse qcow2, holes filled in', async () => {
    const image = await qcow2Image(64 * MIB)
    await output('qemu-io', '-f', 'qcow2', '-c', 'write -P 7 1M 3M', '-c', 'write -P 9 40M 64k', '-c', 'write -z 2M 64k', image)
    const server = await startStorageDaemon(image, { writable: false })
    const pool = await openPool(server, { structuredReplies: true })
    expect(sha256(await readAll(pool))).toBe(sha256(await copiedByNbdcopy(server)))
  })

  test('TCP', async () => {
    const port = await freePort()
    const tool = startTool('nbdkit', ['--foreground', '--ipaddr', '127.0.0.1', '--port', String(port), 'pattern', 'size=5M'])
    onTestFinished(() => tool.stop(5_000))
    const endpoint = { type: 'tcp', host: '127.0.0.1', port, exportName: '' } as const
    const pool = await vi.waitFor(() => NbdPool.open(endpoint, { connections: 2 }), { timeout: 60_000, interval: 10 })
    onTestFinished(() => pool.close())
    const disk = await readAll(pool)
    // nbdkit's pattern plugin: every 8 bytes hold their own offset.
    expect(disk.readBigUInt64BE(0)).toBe(0n)
    expect(disk.readBigUInt64BE(5 * MIB - 8)).toBe(BigInt(5 * MIB - 8))
    expect(disk.readBigUInt64BE(3_000_000)).toBe(3_000_000n)
  })

  test('a script that serves (eval), one connection, no structured replies', async () => {
    const server = await startNbdkit('--no-sr', 'eval', 'get_size=echo 1048576', 'pread=head -c $3 /dev/zero | tr "\\0" x')
    const pool = await openPool(server, { metaContexts: ['base:allocation'] })
    expect(pool.connectionCount).toBe(1)
    expect(pool.export.metaContexts).toEqual([])
    const into = Buffer.alloc(70_000)
    await pool.read(12_345, 70_000, into)
    expect(into.equals(Buffer.alloc(70_000, 'x'))).toBe(true)
  })

  test('an export that does not exist', async () => {
    const server = await startStorageDaemon(await qcow2Image(MIB), { writable: false })
    await expect(NbdConnection.connect({ ...server.endpoint, exportName: 'other' })).rejects.toMatchObject({
      code: 'NBD_CONNECT_FAILED',
      message: expect.stringContaining('no export of this name'),
    })
  })
})

describe('extents are what nbdinfo maps', () => {
  test('base:allocation of nbdkit sparse-random, thousands of extents', async () => {
    const server = await startNbdkit('sparse-random', 'size=2G', 'seed=7', 'percent=10', 'runlength=262144')
    const pool = await openPool(server, { metaContexts: ['base:allocation'] })
    const extents = await listed(pool.extents('base:allocation', 0, pool.export.sizeBytes))
    expect(extents.length).toBeGreaterThan(1000)
    expect(extents).toEqual(await mappedByNbdinfo(server, 'base:allocation'))
  })

  test('base:allocation of a 6 TiB qcow2, data beyond 4 GiB borders', async () => {
    const image = await qcow2Image(6 * 1024 ** 4)
    await output(
      'qemu-io',
      '-f',
      'qcow2',
      '-c',
      'write -P 1 4294901760 128k',
      '-c',
      'write -P 2 5T 64k',
      '-c',
      'write -z 9G 1M',
      image,
    )
    const server = await startPlainQemuNbd('--read-only', '--format=qcow2', '--shared=8', image)
    const pool = await openPool(server, { metaContexts: ['base:allocation'] })
    const extents = await listed(pool.extents('base:allocation', 0, pool.export.sizeBytes))
    expect(extents.filter(({ flags }) => flags === 0)).toEqual([
      { offset: 4_294_901_760, length: 131_072, flags: 0 },
      { offset: 5 * 1024 ** 4, length: 65_536, flags: 0 },
    ])
    expect(extents).toEqual(await mappedByNbdinfo(server, 'base:allocation'))
  })

  test('a dirty bitmap that persists in the image, with base:allocation beside it', async () => {
    const image = await qcow2Image(512 * MIB)
    await output('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 64M', image)
    await output('qemu-img', 'bitmap', '--add', image, 'since-full')
    await output('qemu-io', '-f', 'qcow2', '-c', 'write -P 2 1M 100k', '-c', 'write -z 32M 1M', '-c', 'write -P 3 511M 1M', image)
    const server = await startPlainQemuNbd('--read-only', '--format=qcow2', '--shared=8', '--bitmap=since-full', image)
    const context = 'qemu:dirty-bitmap:since-full'
    const pool = await openPool(server, { metaContexts: ['base:allocation', context, 'qemu:dirty-bitmap:none'] })
    expect([...pool.export.metaContexts].sort()).toEqual(['base:allocation', context])
    const dirty = await listed(pool.extents(context, 0, pool.export.sizeBytes))
    expect(dirty.filter(({ flags }) => flags === 1)).toEqual([
      { offset: MIB, length: 2 * 65_536, flags: 1 },
      { offset: 32 * MIB, length: MIB, flags: 1 },
      { offset: 511 * MIB, length: MIB, flags: 1 },
    ])
    expect(dirty).toEqual(await mappedByNbdinfo(server, context))
    const allocation = await listed(pool.extents('base:allocation', 0, pool.export.sizeBytes))
    expect(allocation).toEqual(await mappedByNbdinfo(server, 'base:allocation'))
    const middle = await listed(pool.extents(context, MIB + 1000, 33 * MIB))
    expect(middle.map(({ offset, length, flags }) => [offset, length, flags])).toEqual([
      [MIB + 1000, 2 * 65_536 - 1000, 1],
      [MIB + 2 * 65_536, 31 * MIB - 2 * 65_536, 0],
      [32 * MIB, MIB, 1],
    ])
  })
})

/** Writes data and zeroes through the pool, and the same bytes into a raw file; `qemu-img compare` judges. */
async function writtenAlike(server: RunningServer, image: string, format: string, sizeBytes: number): Promise<boolean> {
  const expected = Buffer.alloc(sizeBytes)
  const pool = await openPool(server)
  const blockBytes = 256 * 1024
  const writes: Promise<void>[] = []
  for (let offset = 0; offset < sizeBytes; offset += 2 * blockBytes) {
    const data = randomBytes(Math.min(blockBytes, sizeBytes - offset))
    data.copy(expected, offset)
    writes.push(pool.write(offset, data))
  }
  await Promise.all(writes)
  expected.fill(0, blockBytes / 2, 8 * blockBytes)
  await pool.writeZeroes(blockBytes / 2, 8 * blockBytes - blockBytes / 2)
  const late = randomBytes(4096)
  late.copy(expected, 3 * blockBytes)
  await pool.write(3 * blockBytes, late)
  await pool.flush()
  const back = Buffer.alloc(sizeBytes)
  await pool.read(0, sizeBytes, back)
  const readBack = back.equals(expected)
  await pool.close()
  await server.tool.stop(10_000)
  const right = await rawImage(expected)
  return readBack && (await compareImages({ path: image, format }, { path: right, format: 'raw' }))
}

describe('what was written is what qemu-img sees', () => {
  test('qemu-nbd, qcow2', async () => {
    const image = await qcow2Image(20 * MIB)
    const server = await startPlainQemuNbd('--format=qcow2', '--shared=4', '--discard=unmap', image)
    expect(await writtenAlike(server, image, 'qcow2', 20 * MIB)).toBe(true)
  })

  test('qemu-storage-daemon, qcow2', async () => {
    const image = await qcow2Image(20 * MIB)
    expect(await writtenAlike(await startStorageDaemon(image, { writable: true }), image, 'qcow2', 20 * MIB)).toBe(true)
  })

  test('nbdkit file, whose block size policy takes 64 KiB at most', async () => {
    const image = await rawImage(Buffer.alloc(0))
    await truncate(image, 5 * MIB)
    const policy = [
      'blocksize-minimum=4096',
      'blocksize-preferred=4096',
      'blocksize-maximum=65536',
      'blocksize-error-policy=error',
    ]
    const server = await startNbdkit('--filter=blocksize-policy', 'file', image, ...policy)
    expect(await writtenAlike(server, image, 'raw', 5 * MIB)).toBe(true)
  })

  test('nbdkit without WRITE_ZEROES', async () => {
    const image = await rawImage(Buffer.alloc(0))
    await truncate(image, 5 * MIB)
    expect(await writtenAlike(await startNbdkit('--filter=nozero', 'file', image), image, 'raw', 5 * MIB)).toBe(true)
  })

  test('a chain: only written ranges change, zeroes hide the parent’s data', async () => {
    const folder = await temporaryFolder()
    const [base, overlay] = [join(folder, 'base.qcow2'), join(folder, 'overlay.qcow2')]
    await output('qemu-img', 'create', '-q', '-f', 'qcow2', base, '4M')
    await output('qemu-io', '-f', 'qcow2', '-c', 'write -P 17 0 4M', base)
    await output('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', overlay)
    const server = await startPlainQemuNbd('--format=qcow2', overlay)
    const pool = await openPool(server)
    await Promise.all([pool.write(MIB, Buffer.alloc(65_536, 34)), pool.writeZeroes(2 * MIB, 65_536)])
    await pool.flush()
    await pool.close()
    await server.tool.stop(10_000)
    const expected = Buffer.alloc(4 * MIB, 17)
      .fill(34, MIB, MIB + 65_536)
      .fill(0, 2 * MIB, 2 * MIB + 65_536)
    expect(await compareImages({ path: overlay, format: 'qcow2' }, { path: await rawImage(expected), format: 'raw' })).toBe(true)
    expect(
      await compareImages({ path: base, format: 'qcow2' }, { path: await rawImage(Buffer.alloc(4 * MIB, 17)), format: 'raw' }),
    ).toBe(true)
  })
})
