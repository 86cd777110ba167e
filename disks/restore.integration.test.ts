import { link, mkdir, open, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { backUpImage, MIB, noise, processesNaming, prose, writeImage } from '../test/disk-backups.ts'
import { failureOf } from '../test/failure.ts'
import { requireTool } from '../test/requires.ts'
import { createTemporaryFolder, temporaryFolder } from '../test/temporary-folder.ts'
import { compareImages } from '../tools/qemu-img.ts'
import { runTool, startTool } from '../tools/run-tool.ts'
import { blocksPath, imagePath, type ChainLink } from './chain.ts'
import { checkRestoreTarget, discardRestore, restoreDiskTo, type RestoreRequest } from './restore.ts'
import { readRestoreJournal } from './restore-journal.ts'

requireTool('qemu-nbd')

const sizeBytes = 40 * MIB + 1000

interface Sample {
  folder: string
  links: ChainLink[]
  /** The disk at the full and at the incremental. */
  raws: [string, string]
}

/** What tests start from; making it takes longer than what they do with it. Nobody writes to it. */
let kept: Awaited<ReturnType<typeof createTemporaryFolder>>
const chains = new Map<string, Promise<Sample>>()
let large: Promise<LargeBackup> | undefined

beforeAll(async () => {
  kept = await createTemporaryFolder()
})

afterAll(() => kept?.remove())

/** A chain of the test's own. */
async function sampleChain(compression: 'zstd' | 'none' = 'zstd'): Promise<Sample> {
  const making = chains.get(compression) ?? makeChain(join(kept.path, compression), compression)
  chains.set(compression, making)
  const made = await making
  const folder = await temporaryFolder()
  await runTool('cp', ['-a', '--sparse=always', `${made.folder}/.`, folder], { timeoutMs: 60_000 })
  const own = (path: string): string => join(folder, relative(made.folder, path))
  return {
    folder,
    links: made.links.map((link) => ({ ...link, folder: own(link.folder) })),
    raws: [own(made.raws[0]), own(made.raws[1])],
  }
}

async function makeChain(folder: string, compression: 'zstd' | 'none'): Promise<Sample> {
  await mkdir(folder)
  const raws: [string, string] = [join(folder, 'first.raw'), join(folder, 'second.raw')]
  const first: [number, Buffer][] = [
    [0, noise(3 * MIB, 1)],
    [8 * MIB + 4096, prose(5 * MIB, 2)],
    [sizeBytes - 700, noise(700, 3)],
  ]
  await writeImage(raws[0], sizeBytes, first)
  const full = await backUpImage({
    folder,
    backupId: 'full',
    imagePath: raws[0],
    sizeBytes: 512 * Math.ceil(sizeBytes / 512),
    compression,
  })
  await writeImage(raws[1], sizeBytes, [...first, [MIB, noise(MIB, 4)], [9 * MIB, Buffer.alloc(MIB)], [38 * MIB, prose(MIB, 5)]])
  const { links } = await backUpImage({
    folder,
    backupId: 'next',
    imagePath: raws[1],
    sizeBytes: 512 * Math.ceil(sizeBytes / 512),
    compression,
    parent: full.links,
  })
  return { folder, links, raws }
}

function requestFor(
  { folder, links }: Pick<Sample, 'folder' | 'links'>,
  targetFormat: 'raw' | 'qcow2',
  name = `restored, "x".${targetFormat}`,
): RestoreRequest {
  return {
    restoreId: 'restore-1',
    links,
    targetPath: join(folder, name),
    targetFormat,
    runFolder: join(folder, 'run'),
    checkpointIntervalMs: 5_000,
    checkpointIntervalBytes: 1024 * MIB,
  }
}

async function isEqual(request: RestoreRequest, raw: string): Promise<boolean> {
  return compareImages({ path: request.targetPath, format: request.targetFormat }, { path: raw, format: 'raw' })
}

async function tracesOf({ targetPath }: RestoreRequest): Promise<string[]> {
  const names = await readdir(dirname(targetPath))
  return names.filter((name) => name.includes('.partial'))
}

describe.each(['raw', 'qcow2'] as const)('a restore to %s', (targetFormat) => {
  it.each(['zstd', 'none'] as const)('gives every point back as it was, compression %s', async (compression) => {
    const sample = await sampleChain(compression)
    for (const [index, raw] of sample.raws.entries()) {
      const request = requestFor({ ...sample, links: sample.links.slice(0, index + 1) }, targetFormat, `point ${index}`)
      const progress: number[] = []
      const result = await restoreDiskTo(request, {
        onProgress: ({ processedBytes, totalBytes }) => progress.push(processedBytes / totalBytes),
      })
      expect(result).toEqual({ restoredBytes: 512 * Math.ceil(sizeBytes / 512), resumedAtBytes: 0 })
      expect(await isEqual(request, raw)).toBe(true)
      expect(await tracesOf(request)).toEqual([])
      expect((await stat(request.targetPath)).mode & 0o077).toBe(0)
      expect(progress.every((part) => part <= 1)).toBe(true)
    }
    expect(await processesNaming(sample.folder)).toEqual([])
  })

  it('takes little space for a large disk that is mostly empty', async () => {
    const folder = await temporaryFolder()
    const raw = join(folder, 'disk.raw')
    const size = 8 * 1024 * MIB
    await writeImage(raw, size, [
      [MIB, noise(MIB, 1)],
      [5 * 1024 * MIB + 12_288, noise(100_000, 2)],
    ])
    const { links } = await backUpImage({ folder, backupId: 'full', imagePath: raw, sizeBytes: size })
    const request = requestFor({ folder, links }, targetFormat)
    await restoreDiskTo(request)
    const { blocks, size: fileBytes } = await stat(request.targetPath)
    expect(blocks * 512).toBeLessThan(4 * MIB)
    expect(targetFormat === 'raw' ? fileBytes : size).toBe(size)
    expect(await isEqual(request, raw)).toBe(true)
  })

  it('goes on after kill -9 where it was, and ends in one correct file', async () => {
    const sample = await largeBackup()
    const request = { ...requestFor(sample, targetFormat), checkpointIntervalMs: 5, checkpointIntervalBytes: 1 }
    await killRestoreInTheMiddle(request)
    expect((await tracesOf(request)).length).toBeGreaterThanOrEqual(2)
    const { resumedAtBytes } = await restoreDiskTo(request)
    expect(resumedAtBytes).toBeGreaterThan(0)
    expect(await isEqual(request, sample.raw)).toBe(true)
    expect(await tracesOf(request)).toEqual([])
  })

  it('checkpoints when it is stopped, leaves what it has, and goes on', async () => {
    const sample = await largeBackup()
    const request = { ...requestFor(sample, targetFormat), checkpointIntervalMs: 5, checkpointIntervalBytes: 1 }
    const stop = new AbortController()
    const restoring = restoreDiskTo(request, { signal: stop.signal })
    const outcome = restoring.catch((error: unknown) => error)
    await reached(request)
    const reason = new Error('stopped by the test')
    stop.abort(reason)
    expect(await outcome).toBe(reason)
    for (const used of [sample.folder, kept.path]) expect(await processesNaming(used)).toEqual([])
    const { resumedAtBytes } = await restoreDiskTo(request)
    expect(resumedAtBytes).toBeGreaterThan(0)
    expect(await isEqual(request, sample.raw)).toBe(true)
  })

  it('refuses a damaged block, names it, and shows no target', async () => {
    const sample = await sampleChain('none')
    const damaged = imagePath(sample.links[0]!)
    const bytes = await readFile(damaged)
    const at = bytes.indexOf(noise(3 * MIB, 1).subarray(2 * MIB, 2 * MIB + 4096))
    bytes[at] = bytes[at]! ^ 1
    await writeFile(damaged, bytes)
    const request = requestFor(sample, targetFormat)
    await expect(restoreDiskTo(request)).rejects.toMatchObject({
      code: 'BACKUP_CORRUPT',
      retryable: false,
      details: { backup_id: 'next', disk_index: 0, offset_bytes: 2 * MIB },
    })
    expect(await readdir(sample.folder)).not.toContain('restored')
    await discardRestore(request.targetPath, request.restoreId)
    expect(await tracesOf(request)).toEqual([])
    await expect(stat(request.targetPath)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('says that the target is full, and leaves nothing once it is discarded', async (context) => {
    if (process.getuid?.() !== 0) context.skip('mounting a small file system needs root')
    const sample = await sampleChain()
    const small = join(sample.folder, 'small')
    await mkdir(small)
    await runTool('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'holdfast-test', small], { timeoutMs: 10_000 })
    onTestFinished(async () => {
      await runTool('umount', [small], { timeoutMs: 10_000 })
    })
    const request = { ...requestFor(sample, targetFormat), targetPath: join(small, 'disk') }
    await expect(restoreDiskTo(request)).rejects.toMatchObject({ code: 'INSUFFICIENT_STORAGE', retryable: false })
    await discardRestore(request.targetPath, request.restoreId)
    expect(await readdir(small)).toEqual([])
  })
})

describe('a target', () => {
  it('that exists is not touched, nor one that appears meanwhile', async () => {
    const sample = await sampleChain()
    const request = requestFor(sample, 'raw')
    await writeFile(request.targetPath, 'mine')
    await expect(restoreDiskTo(request)).rejects.toMatchObject({ code: 'RESTORE_TARGET_EXISTS' })
    expect(await tracesOf(request)).toEqual([])
    await rm(request.targetPath)
    const restoring = restoreDiskTo(request)
    const outcome = failureOf(restoring)
    while ((await tracesOf(request)).length === 0) await delay(1)
    await writeFile(request.targetPath, 'mine')
    expect((await outcome).code).toBe('RESTORE_TARGET_EXISTS')
    expect(await readFile(request.targetPath, 'utf8')).toBe('mine')
  })

  it('is finished by the next attempt when the crash came after it had got its name', async () => {
    const sample = await sampleChain()
    const request = requestFor(sample, 'raw')
    const raised = { ...request, checkpointIntervalMs: 1, checkpointIntervalBytes: 1 }
    // The state of that instant: restored once under another name, then both names and the journal as they were.
    await restoreDiskTo({ ...raised, targetPath: `${request.targetPath}-other` })
    await rename(`${request.targetPath}-other`, request.targetPath)
    await link(request.targetPath, `${request.targetPath}.partial`)
    const { dev, ino } = await stat(request.targetPath, { bigint: true })
    const { disk } = sample.links[1]!
    const journal = {
      format: 'holdfast-restore',
      format_version: 1,
      restoreId: request.restoreId,
      backupId: 'next',
      diskIndex: 0,
      blocksSha256: disk.blocks_sha256,
      sizeBytes: disk.size_bytes,
      targetFormat: 'raw',
      reachedBytes: disk.size_bytes,
      file: { device: String(dev), inode: String(ino) },
    }
    await writeFile(`${request.targetPath}.partial.journal`, JSON.stringify(journal))
    expect(await restoreDiskTo(request)).toEqual({ restoredBytes: disk.size_bytes, resumedAtBytes: disk.size_bytes })
    expect(await tracesOf(request)).toEqual([])
    expect(await isEqual(request, sample.raws[1])).toBe(true)
  })

  it('is started again when what lies there is of a replaced file, or no image', async () => {
    const sample = await sampleChain()
    const request = requestFor(sample, 'qcow2')
    const partial = `${request.targetPath}.partial`
    const interrupted = async (change: Record<string, unknown>): Promise<void> => {
      const stop = AbortSignal.timeout(1)
      await restoreDiskTo(request, { signal: stop }).catch(() => {})
      await writeFile(partial, 'no image')
      const { dev, ino } = await stat(partial, { bigint: true })
      const { disk } = sample.links[1]!
      const journal = {
        restoreId: request.restoreId,
        backupId: 'next',
        diskIndex: 0,
        blocksSha256: disk.blocks_sha256,
        sizeBytes: disk.size_bytes,
        targetFormat: 'qcow2',
      }
      const file = { device: String(dev), inode: String(ino) }
      const text = JSON.stringify({
        format: 'holdfast-restore',
        format_version: 1,
        ...journal,
        reachedBytes: 32 * MIB,
        file,
        ...change,
      })
      await writeFile(`${partial}.journal`, text)
    }
    for (const change of [{}, { file: { device: '1', inode: '2' } }, { file: null }, { reachedBytes: 77 }]) {
      await interrupted(change)
      expect(await restoreDiskTo(request), JSON.stringify(change)).toMatchObject({ resumedAtBytes: 0 })
      expect(await isEqual(request, sample.raws[1])).toBe(true)
      await rm(request.targetPath)
    }
  })

  it('leaves files of others alone that have the names of its own', async () => {
    const sample = await sampleChain()
    const request = requestFor(sample, 'raw')
    for (const name of [`${request.targetPath}.partial`, `${request.targetPath}.partial.journal`]) {
      await writeFile(name, 'mine')
      await expect(restoreDiskTo(request)).rejects.toMatchObject({ code: 'RESTORE_TARGET_EXISTS' })
      await expect(checkRestoreTarget(request.targetPath, request.restoreId)).rejects.toMatchObject({
        code: 'RESTORE_TARGET_EXISTS',
      })
      await discardRestore(request.targetPath, request.restoreId)
      expect(await readFile(name, 'utf8')).toBe('mine')
      await rm(name)
    }
    await checkRestoreTarget(request.targetPath, request.restoreId)
  })

  it('is refused where no disk may lie', async () => {
    const folder = await temporaryFolder()
    const repository = join(folder, 'repository')
    await mkdir(join(repository, 'vms'), { recursive: true })
    await symlink(repository, join(folder, 'link'))
    await writeFile(join(folder, 'file'), '')
    const invalid = { code: 'RESTORE_TARGET_INVALID' }
    const inside = ['repository/disk.raw', 'repository/vms/disk.raw', 'link/disk.raw', 'x/../repository/disk.raw']
    for (const name of inside)
      await expect(checkRestoreTarget(join(folder, name), 'restore-1', [repository]), name).rejects.toMatchObject(invalid)
    const others = [
      'relative.raw',
      join(folder, 'missing/disk'),
      join(folder, 'file/disk'),
      `${folder}/`,
      '/dev/disk',
      '/proc/disk',
      '/sys/disk',
    ]
    for (const path of [...others, join(folder, 'x'.repeat(250)), `${folder}/a\0b`]) {
      await expect(checkRestoreTarget(path, 'restore-1'), path).rejects.toMatchObject(invalid)
    }
    await symlink('/nowhere', join(folder, 'dangling'))
    await expect(checkRestoreTarget(join(folder, 'dangling'), 'restore-1')).rejects.toMatchObject({
      code: 'RESTORE_TARGET_EXISTS',
    })
    await expect(checkRestoreTarget(join(folder, 'repository-2'), 'restore-1', [repository])).resolves.toBeUndefined()
  })

  it('is not written from hashes that are not those of the manifest', async () => {
    const sample = await sampleChain()
    const file = await open(blocksPath(sample.links[1]!), 'r+')
    await file.write(Buffer.from([1, 2, 3]), 0, 3, 100)
    await file.close()
    const request = requestFor(sample, 'raw')
    await expect(restoreDiskTo(request)).rejects.toMatchObject({ code: 'BACKUP_CORRUPT' })
    expect(await tracesOf(request)).toEqual([])
  })
})

interface LargeBackup {
  links: ChainLink[]
  raw: string
}

/** The same one for all tests, in {@link kept}, which read only; and a folder of the test's own. */
async function largeBackup(): Promise<LargeBackup & { folder: string }> {
  large ??= makeLargeBackup(join(kept.path, 'large'))
  return { folder: await temporaryFolder(), ...(await large) }
}

async function makeLargeBackup(folder: string): Promise<LargeBackup> {
  await mkdir(folder)
  const raw = join(folder, 'large.raw')
  const size = 256 * MIB
  await writeImage(raw, size, [[0, noise(size, 7)]])
  const { links } = await backUpImage({ folder, backupId: 'full', imagePath: raw, sizeBytes: size, compression: 'none' })
  return { links, raw }
}

/** Waits until the journal claims something. */
async function reached({ targetPath }: RestoreRequest): Promise<void> {
  for (;;) {
    const journal = await readRestoreJournal(`${targetPath}.partial.journal`)
    if (journal !== null && journal !== 'foreign' && journal.reachedBytes > 0) return
    await delay(2)
  }
}

async function killRestoreInTheMiddle(request: RestoreRequest): Promise<void> {
  const restore = pathToFileURL(join(import.meta.dirname, 'restore.ts')).href
  const script = `import { restoreDiskTo } from ${JSON.stringify(restore)}; await restoreDiskTo(${JSON.stringify(request)})`
  const mover = startTool(process.execPath, ['--input-type=module', '--eval', script])
  onTestFinished(() => mover.stop(0))
  await reached(request)
  process.kill(mover.pid, 'SIGKILL')
  expect((await mover.exited).signal).toBe('SIGKILL')
  while ((await processesNaming(request.runFolder)).length > 0) await delay(5)
}
