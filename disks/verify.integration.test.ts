import { randomBytes, randomInt } from 'node:crypto'
import { copyFile, cp, open, readFile, rename, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, describe, expect, it } from 'vitest'
import type { Compression } from '../domain/backup.ts'
import { BLOCK_SIZE_BYTES } from '../domain/blocks.ts'
import { backUpImage, MIB, noise, processesNaming, prose, writeImage } from '../test/disk-backups.ts'
import { failBeyond } from '../test/failing-file.ts'
import { requireTool } from '../test/requires.ts'
import { createTemporaryFolder, temporaryFolder } from '../test/temporary-folder.ts'
import { runTool } from '../tools/run-tool.ts'
import { blocksPath, imagePath, type ChainLink } from './chain.ts'
import { REGION_SIZE_BYTES } from './block-hashes.ts'
import { requireWhole, verifyDisk, type DiskDamage, type VerifyResult } from './verify.ts'

requireTool('qemu-nbd')
requireTool('nbdfuse')

const sizeBytes = 24 * MIB + 512

interface Sample {
  folder: string
  links: ChainLink[]
  newest: ChainLink
  full: ChainLink
}

interface Template {
  path: string
  links: ChainLink[]
  remove(): Promise<void>
}

const templates = new Map<Compression, Promise<Template>>()

afterAll(async () => {
  for (const template of templates.values()) await (await template).remove()
})

/** A chain to be damaged: a copy of one that is made once. */
async function sampleChain(compression: Compression, runName = 'run'): Promise<Sample> {
  const folder = await temporaryFolder()
  const making = templates.get(compression) ?? makeChain(compression)
  templates.set(compression, making)
  const template = await making
  await cp(template.path, folder, { recursive: true })
  const [full, newest] = template.links.map((link) => ({ ...link, folder: link.folder.replace(template.path, folder) }))
  if (!full || !newest) throw new TypeError('two backups were made')
  return { folder: join(folder, runName), links: [full, newest], newest, full }
}

/** A full of data, text and holes, and an incremental over it that overwrites and zeroes. */
async function makeChain(compression: Compression): Promise<Template> {
  const temporary = await createTemporaryFolder()
  const folder = temporary.path
  const raw = join(folder, 'disk.raw')
  await writeImage(raw, sizeBytes, [
    [0, noise(3 * MIB, 1)],
    [8 * MIB + 4096, prose(5 * MIB, 2)],
    [sizeBytes - 700, noise(700, 3)],
  ])
  const first = await backUpImage({ folder, backupId: 'full', imagePath: raw, sizeBytes, compression })
  await writeImage(raw, sizeBytes, [
    [MIB, noise(MIB, 4)],
    [9 * MIB, Buffer.alloc(MIB)],
    [20 * MIB, prose(MIB, 5)],
  ])
  const { links } = await backUpImage({ folder, backupId: 'next', imagePath: raw, sizeBytes, compression, parent: first.links })
  return { ...temporary, links }
}

function verify(sample: Pick<Sample, 'folder'>, links: ChainLink[]): Promise<VerifyResult> {
  return verifyDisk({ links, runFolder: sample.folder })
}

/** Flips one bit of a file while `work` runs. */
async function withFlippedBit<T>(path: string, offset: number, work: () => Promise<T>): Promise<T> {
  const flip = async (): Promise<void> => {
    const file = await open(path, 'r+')
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, offset)
    byte[0] = (byte[0] ?? 0) ^ (1 << (offset % 8))
    await file.write(byte, 0, 1, offset)
    await file.close()
  }
  await flip()
  try {
    return await work()
  } finally {
    await flip()
  }
}

function covering(damage: readonly DiskDamage[], kind: DiskDamage['kind'], offset: number): DiskDamage[] {
  return damage.filter((item) => item.kind === kind && item.offsetBytes <= offset && offset < item.offsetBytes + item.lengthBytes)
}

/** Where QCOW2 keeps its tables, and places in between that nothing refers to. Uncompressed only what differs there: how clusters are found, and content. */
async function tellingOffsets(path: string, compression: Compression): Promise<number[]> {
  const bytes = await readFile(path)
  const l1 = Number(bytes.readBigUInt64BE(40))
  const refcountTable = Number(bytes.readBigUInt64BE(48))
  const refcountBlock = Number(bytes.readBigUInt64BE(refcountTable))
  const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00fffffffffffe00n)
  const fixed = [
    0,
    5,
    21,
    30,
    45,
    55,
    75,
    103,
    105,
    600,
    65_535,
    l1,
    l1 + 7,
    l1 + 5000,
    refcountTable + 5,
    refcountBlock + 1,
    refcountBlock + 9000,
  ]
  const anywhere = Array.from({ length: 8 }, () => randomInt(bytes.length))
  const offsets = [l2, l2 + 6, l2 + 9000, bytes.length - 1, ...anywhere, ...(compression === 'none' ? [] : fixed)]
  return offsets.filter((offset) => offset < bytes.length)
}

describe.each(['zstd', 'none'] as const)('verification of a disk, compression %s', (compression) => {
  it('passes what is sound, full and incremental', async () => {
    const sample = await sampleChain(compression)
    const seen: number[] = []
    const result = await verifyDisk(
      { links: sample.links, runFolder: sample.folder },
      { onProgress: ({ processedBytes, totalBytes }) => seen.push(processedBytes / totalBytes) },
    )
    expect(result).toEqual({ verifiedBytes: sizeBytes, damage: [] })
    expect(seen.at(-1)).toBe(1)
    expect(await verify(sample, [sample.full])).toEqual({ verifiedBytes: sizeBytes, damage: [] })
    expect(await processesNaming(sample.folder)).toEqual([])
  })

  it('finds one flipped bit anywhere in the QCOW2 file, and says where', async () => {
    const sample = await sampleChain(compression)
    const path = imagePath(sample.full)
    for (const offset of await tellingOffsets(path, compression)) {
      const { damage } = await withFlippedBit(path, offset, () => verify(sample, [sample.full]))
      const region = Math.floor(offset / REGION_SIZE_BYTES) * REGION_SIZE_BYTES
      expect(covering(damage, 'file', offset), `offset ${offset}`).toMatchObject([{ offsetBytes: region, file: path }])
    }
    expect((await verify(sample, [sample.full])).damage).toEqual([])
  })
})

describe('verification of a damaged disk', () => {
  it('finds one flipped bit anywhere in the blocks file', async () => {
    const sample = await sampleChain('zstd')
    const path = blocksPath(sample.newest)
    const { size } = await stat(path)
    const offsets = [
      0,
      8,
      13,
      17,
      22,
      25,
      33,
      42,
      46,
      49,
      57,
      63,
      64,
      size - 1,
      ...Array.from({ length: 6 }, () => randomInt(size)),
    ]
    for (const offset of offsets) {
      const { damage } = await withFlippedBit(path, offset, () => verify(sample, sample.links))
      expect(
        damage.filter((item) => item.kind === 'blocks-file' && item.file === path),
        `offset ${offset}`,
      ).not.toEqual([])
    }
  })

  it('names the offset on the disk of a block whose data was changed, in the newest file and in a parent', async () => {
    const sample = await sampleChain('none')
    const places: [ChainLink, Buffer, number][] = [
      [sample.newest, noise(MIB, 4).subarray(0, 4096), MIB],
      [sample.full, noise(3 * MIB, 1).subarray(2 * MIB, 2 * MIB + 4096), 2 * MIB],
    ]
    for (const [link, pattern, guestOffset] of places) {
      const at = (await readFile(imagePath(link))).indexOf(pattern)
      const { damage, verifiedBytes } = await withFlippedBit(imagePath(link), at, () => verify(sample, sample.links))
      expect(verifiedBytes).toBe(sizeBytes)
      expect(damage[0]).toMatchObject({ kind: 'block', offsetBytes: guestOffset, lengthBytes: BLOCK_SIZE_BYTES })
      expect(damage[0]?.message).toContain(`offset ${guestOffset}`)
    }
  })

  it('names the hash, not the data, when the hash was changed', async () => {
    const sample = await sampleChain('zstd')
    const offset = 64 + 32 * 5 + 3
    const { damage } = await withFlippedBit(blocksPath(sample.newest), offset, () => verify(sample, sample.links))
    expect(damage.map((item) => item.kind)).toEqual(['blocks-file', 'blocks-file'])
    expect(damage[1]).toMatchObject({ offsetBytes: 64 + 32 * 5, lengthBytes: 32 })
  })

  it('notices data that turned into zeroes, and zeroes that turned into data', async () => {
    const sample = await sampleChain('none')
    const image = await open(imagePath(sample.full), 'r+')
    const header = Buffer.alloc(104)
    await image.read(header, 0, 104, 0)
    const l1Entry = Buffer.alloc(8)
    await image.read(l1Entry, 0, 8, Number(header.readBigUInt64BE(40)))
    const l2 = Number(l1Entry.readBigUInt64BE(0) & 0x00fffffffffffe00n)
    const entries = Buffer.alloc(8 * 100)
    await image.read(entries, 0, entries.length, l2)
    // Cluster 8 (offset 512 KiB) loses its data; cluster 64 (offset 4 MiB), a hole, shows that of cluster 0.
    await image.write(Buffer.alloc(8), 0, 8, l2 + 8 * 8)
    await image.write(entries, 0, 8, l2 + 8 * 64)
    await image.close()
    const blocks = (await verify(sample, [sample.full])).damage.filter((item) => item.kind === 'block')
    expect(blocks.map((item) => item.offsetBytes)).toEqual([MIB / 2, 4 * MIB])
  })

  it('goes on after damage, and reports no more than a hundred places', async () => {
    const folder = await temporaryFolder()
    const raw = join(folder, 'disk.raw')
    const size = 128 * MIB
    await writeImage(raw, size, [[0, noise(size, 1)]])
    const { links } = await backUpImage({ folder, backupId: 'full', imagePath: raw, sizeBytes: size, compression: 'none' })
    const path = imagePath(links[0] as ChainLink)
    const bytes = await readFile(path)
    const first = bytes.indexOf(noise(4096, 1))
    for (let at = first; at < bytes.length; at += 2 * BLOCK_SIZE_BYTES) bytes[at] = (bytes[at] ?? 0) ^ 1
    await writeFile(path, bytes)
    const { damage, verifiedBytes } = await verifyDisk({ links, runFolder: join(folder, 'run') })
    expect(verifiedBytes).toBe(size)
    expect(damage).toHaveLength(100)
  })

  it.each<[string, (sample: Sample) => Promise<unknown>, Partial<DiskDamage>]>([
    ['a QCOW2 file cut short', ({ newest }) => truncate(imagePath(newest), 300_000), { kind: 'chain' }],
    ['a parent cut short', ({ full }) => truncate(imagePath(full), 300_000), { kind: 'chain' }],
    ['a deleted QCOW2 file', ({ newest }) => rm(imagePath(newest)), { kind: 'chain' }],
    ['a deleted parent', ({ full }) => rm(full.folder, { recursive: true }), { kind: 'chain' }],
    [
      'a parent that became a link',
      ({ full }) => rename(imagePath(full), `${imagePath(full)}x`).then(() => symlink(`${imagePath(full)}x`, imagePath(full))),
      { kind: 'chain' },
    ],
    ['a blocks file cut short', ({ newest }) => truncate(blocksPath(newest), 500), { kind: 'blocks-file' }],
    [
      'a blocks file that is too long',
      ({ newest }) => writeFile(blocksPath(newest), 'x', { flag: 'a' }),
      { kind: 'blocks-file' },
    ],
    ['a named pipe instead of a QCOW2 file', ({ newest }) => pipeInPlaceOf(imagePath(newest)), { kind: 'chain' }],
    ['a named pipe instead of a parent', ({ full }) => pipeInPlaceOf(imagePath(full)), { kind: 'chain' }],
    ['a named pipe instead of a blocks file', ({ newest }) => pipeInPlaceOf(blocksPath(newest)), { kind: 'blocks-file' }],
    ['a blocks file that has grown enormous', ({ newest }) => truncate(blocksPath(newest), 2 ** 43), { kind: 'blocks-file' }],
    ['a missing blocks file', ({ newest }) => rm(blocksPath(newest)), { kind: 'blocks-file' }],
    [
      'the blocks file of another backup',
      ({ newest, full }) => copyFile(blocksPath(full), blocksPath(newest)),
      { kind: 'blocks-file' },
    ],
    [
      'garbage instead of a blocks file',
      ({ newest }) => writeFile(blocksPath(newest), randomBytes(4096)),
      { kind: 'blocks-file' },
    ],
  ])('reports %s', async (_, damageIt, expected) => {
    const sample = await sampleChain('zstd')
    await damageIt(sample)
    const { damage } = await verify(sample, sample.links)
    expect(damage[0]).toMatchObject(expected)
    expect(await processesNaming(sample.folder)).toEqual([])
  })

  it('reports a file that has grown enormous without reading all of that', async () => {
    const sample = await sampleChain('zstd')
    const { size } = await stat(imagePath(sample.newest))
    await truncate(imagePath(sample.newest), 2 ** 43)
    const { damage } = await verify(sample, sample.links)
    expect(damage.map(({ kind }) => kind)).toContain('chain')
    const sealedBytes = Math.ceil(size / REGION_SIZE_BYTES) * REGION_SIZE_BYTES
    const grown = covering(damage, 'file', 2 ** 42)
    expect(grown).toHaveLength(1)
    expect(grown[0]!.offsetBytes).toBeLessThanOrEqual(sealedBytes)
    expect(grown[0]!.offsetBytes + grown[0]!.lengthBytes).toBe(2 ** 43)
  })

  it('reports a parent that was swapped for one of another content', async () => {
    const sample = await sampleChain('none')
    const other = await sampleChain('none')
    const raw = join(other.folder, '..', 'other.raw')
    await writeImage(raw, sizeBytes, [[0, noise(3 * MIB, 9)]])
    const swapped = await backUpImage({
      folder: join(other.folder, '..'),
      backupId: 'swapped',
      imagePath: raw,
      sizeBytes,
      compression: 'none',
    })
    await copyFile(imagePath(swapped.links[0] as ChainLink), imagePath(sample.full))
    const size = (await stat(imagePath(sample.full))).size
    const links = sample.links.map((link) => ({
      ...link,
      disk: { ...link.disk, file_size_bytes: link === sample.full ? size : link.disk.file_size_bytes },
    }))
    const { damage } = await verify(sample, links)
    expect(damage[0]).toMatchObject({ kind: 'block', offsetBytes: 0 })
  })
})

describe('what is not damage', () => {
  it('a disk of which a part was not looked at is not called verified', () => {
    expect(() => requireWhole([MIB, MIB], 2 * MIB)).not.toThrow()
    expect(() => requireWhole([MIB, MIB], 2 * MIB + 512)).toThrow(/2097152 of the disk's 2097664 bytes/)
  })

  it('a repository that is gone is unavailable', async () => {
    const sample = await sampleChain('zstd')
    const repository = join(sample.newest.folder, '..')
    await rename(repository, `${repository}-unmounted`)
    await expect(verify(sample, sample.links)).rejects.toMatchObject({ code: 'REPO_UNAVAILABLE', retryable: true })
    await rename(`${repository}-unmounted`, repository)
  })

  it.each(['the newest file', 'a parent'])('storage that answers with EIO is unavailable: %s', async (which) => {
    const sample = await sampleChain('none')
    await failBeyond(imagePath(which === 'a parent' ? sample.full : sample.newest), MIB)
    await expect(verify(sample, sample.links)).rejects.toMatchObject({ code: 'REPO_UNAVAILABLE', retryable: true })
  })

  it('a server that was killed is a failure that may pass', async () => {
    const sample = await sampleChain('none')
    let outcome: unknown = 'verified'
    // On a busy machine one may be done before its server is found.
    while (outcome === 'verified') {
      const stop = new AbortController()
      const killing = killServers(sample, stop.signal)
      outcome = await verify(sample, sample.links).then(
        () => 'verified',
        (error: unknown) => error,
      )
      stop.abort()
      await killing
    }
    expect(outcome).toMatchObject({ name: 'HoldfastError', code: expect.stringMatching(/^(NBD_|TOOL_FAILED)/) })
  })

  it('being stopped leaves nothing running', async () => {
    const sample = await sampleChain('zstd')
    const stop = new AbortController()
    const verifying = verifyDisk({ links: sample.links, runFolder: sample.folder }, { signal: stop.signal })
    setImmediate(() => stop.abort(new Error('stopped by the test')))
    await expect(verifying).rejects.toThrow('stopped by the test')
    expect(await processesNaming(sample.folder)).toEqual([])
  })
})

/** Until it has found some. */
async function killServers({ folder }: Sample, signal: AbortSignal): Promise<void> {
  for (let servers: number[] = []; servers.length === 0 && !signal.aborted;) {
    servers = await processesNaming(join(folder, '/'))
    for (const pid of servers) killIfThere(pid)
    await delay(1)
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

async function pipeInPlaceOf(path: string): Promise<void> {
  await rm(path)
  await runTool('mkfifo', [path], { timeoutMs: 10_000 })
}
