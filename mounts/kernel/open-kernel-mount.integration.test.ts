import { existsSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import type { ChainLink } from '../../disks/chain.ts'
import type { Volume } from '../../domain/restore-mount.ts'
import { backUpImage, MIB, noise, processesNaming, writeImage } from '../../test/disk-backups.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder, temporaryFolder } from '../../test/temporary-folder.ts'
import { runTool } from '../../tools/run-tool.ts'
import type { RestoreMount } from '../restore-mount.ts'
import { openKernelMount } from './open-kernel-mount.ts'

for (const program of ['qemu-storage-daemon', 'sfdisk', 'mkfs.ext4', 'mkfs.btrfs', 'mkntfs', 'ntfscp', 'ntfs-3g', 'debugfs'])
  requireTool(program)

const timeoutMs = 60_000
/** More than anything reads ahead. */
const CONTENT_BYTES = 48 * MIB
const content = noise(CONTENT_BYTES, 7)
const whole = { offset: 0, length: Number.MAX_SAFE_INTEGER }
const ERROR_MS = 5_000
const FIRST_MIB = 1
/** `dirty`: its journal says that something must be replayed. `copied`: a file system that knows itself by its UUID. */
const parts = { linux: 80, windows: 64, dirty: 16, copied: 128 }

let storage: Awaited<ReturnType<typeof createTemporaryFolder>>
let links: ChainLink[]

beforeAll(async () => {
  storage = await createTemporaryFolder()
  const imagePath = join(storage.path, 'disk.raw')
  const sizeBytes = await makeDisk(imagePath)
  links = (await backUpImage({ folder: join(storage.path, 'backups'), backupId: 'full', imagePath, sizeBytes })).links
})

afterAll(() => storage.remove())

/** A file system in each of four partitions. Resolves with the size of the disk. */
async function makeDisk(imagePath: string): Promise<number> {
  const tree = join(storage.path, 'tree')
  const file = join(tree, 'content')
  await mkdir(tree)
  await writeFile(file, content)
  const run = (program: string, ...args: string[]): Promise<unknown> => runTool(program, args, { timeoutMs })
  const image = (name: keyof typeof parts): string => join(storage.path, `${name}.raw`)
  for (const [name, sizeMib] of Object.entries(parts)) await writeImage(join(storage.path, `${name}.raw`), sizeMib * MIB, [])
  await run('mkfs.ext4', '-q', '-F', '-d', tree, image('linux'))
  await run('mkntfs', '-Q', '-q', '-F', image('windows'))
  await run('ntfscp', '-q', '-f', image('windows'), file, 'content')
  await run('mkfs.ext4', '-q', '-F', image('dirty'))
  await run('debugfs', '-w', '-R', 'feature needs_recovery', image('dirty'))
  await run('mkfs.btrfs', '-q', '-f', image('copied'))
  return joinParts(imagePath)
}

async function joinParts(imagePath: string): Promise<number> {
  const sizeBytes = (Object.values(parts).reduce((sum, sizeMib) => sum + sizeMib, 0) + 2 * FIRST_MIB) * MIB
  await writeImage(imagePath, sizeBytes, [])
  const lines = Object.entries(parts).map(([name, sizeMib]) => `size=${sizeMib}M, name=${name}`)
  await runTool('sfdisk', ['--quiet', imagePath], { timeoutMs, input: `label: gpt\n${lines.join('\n')}\n` })
  let seek = FIRST_MIB
  for (const [name, sizeMib] of Object.entries(parts)) {
    const from = join(storage.path, `${name}.raw`)
    await runTool('dd', [`if=${from}`, `of=${imagePath}`, 'bs=1M', `seek=${seek}`, 'conv=notrunc,sparse'], { timeoutMs })
    seek += sizeMib
  }
  return sizeBytes
}

async function mounted(runFolder: string, mountId = 'mount'): Promise<RestoreMount> {
  const mount = await openKernelMount({ mountId, links }, { runFolder })
  onTestFinished(() => mount.close())
  return mount
}

function volumeOf({ reader }: RestoreMount, label: keyof typeof parts): Volume {
  return reader.volumes.find((volume) => volume.label === label)!
}

/** Of every loop device in use: its name and the file behind it. */
async function backingFiles(): Promise<[name: string, file: string][]> {
  const names = (await readdir('/sys/block')).filter((name) => name.startsWith('loop'))
  const read = (name: string): Promise<string> => readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => '')
  const all = await Promise.all(names.map(async (name): Promise<[string, string]> => [name, (await read(name)).trimEnd()]))
  return all.filter(([, file]) => file !== '')
}

/** What a mount could leave on the host. */
async function traces(runFolder: string): Promise<string[]> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').filter((line) => line.includes(runFolder))
  const loops = (await backingFiles()).map(([, file]) => file).filter((file) => file.includes(runFolder))
  const folders = await readdir(runFolder).catch(() => [])
  return [...mounts, ...loops, ...folders, ...(await processesNaming(runFolder)).map(String)]
}

async function digestOf({ reader }: RestoreMount, volume: Volume): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of reader.read(volume, 'content', whole)) hash.update(piece)
  return hash.digest('hex')
}

it('reads what is on the disk, says what may be missing, and leaves nothing', async () => {
  const runFolder = await temporaryFolder()
  const mount = await mounted(runFolder)
  expect(mount.reader.volumes.map(({ id, label, state, fileSystem }) => [id, label, state, fileSystem])).toEqual([
    ['partition-1', 'linux', 'readable', 'ext4'],
    ['partition-2', 'windows', 'readable', 'ntfs'],
    ['partition-3', 'dirty', 'readable', 'ext4'],
    ['partition-4', 'copied', 'readable', 'btrfs'],
  ])
  expect(volumeOf(mount, 'dirty').note).toContain('journal was not replayed')
  expect(volumeOf(mount, 'linux').note).toBe('')
  const expected = createHash('sha256').update(content).digest('hex')
  expect(await digestOf(mount, volumeOf(mount, 'linux'))).toBe(expected)
  expect(await digestOf(mount, volumeOf(mount, 'windows'))).toBe(expected)
  expect(await traces(runFolder)).not.toEqual([])
  await Promise.all([mount.close(), mount.close()])
  expect(await traces(runFolder)).toEqual([])
  expect(await Promise.race([mount.failed, Promise.resolve('nothing')])).toBe('nothing')
})

it('mounts nothing that could be written, run or opened as a device', async () => {
  const mount = await mounted(await temporaryFolder())
  const pid = /^\/proc\/(\d+)\//.exec(mount.device)?.[1]
  const lines = (await readFile(`/proc/${pid}/mounts`, 'utf8')).split('\n').filter((line) => line.includes('/volumes/'))
  expect(lines).toHaveLength(4)
  for (const line of lines) {
    expect(line.split(' ')[3]!.split(',')).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev', 'noexec']))
  }
  await expect(open(join(mount.folder, 'volumes', 'partition-1', 'new'), 'w')).rejects.toMatchObject({ code: 'EROFS' })
})

it('mounts one backup twice at once, although its file systems then know themselves twice', async () => {
  const runFolder = await temporaryFolder()
  const [one, other] = await Promise.all([mounted(runFolder, 'one'), mounted(runFolder, 'other')])
  for (const mount of [one, other]) expect(mount.reader.volumes.map(({ state }) => state)).toEqual(Array(4).fill('readable'))
  await one.close()
  expect(await other.reader.list(volumeOf(other, 'linux'), '', { first: 0, most: 1 })).toMatchObject({ total: 2 })
})

it.each(['exporter', 'ntfs-3g'])('ends reads within seconds when its %s is killed, and leaves nothing', async (victim) => {
  const runFolder = await temporaryFolder()
  const mount = await mounted(runFolder)
  const reading = mount.reader.read(volumeOf(mount, 'windows'), 'content', whole)
  await reading.next()
  const loops = (await backingFiles()).filter(([, file]) => file.includes(runFolder))
  expect(loops).toHaveLength(4)
  const mine = await processesNaming(runFolder)
  const pid = (await processesNaming(victim === 'exporter' ? '--export' : 'no_detach')).find((one) => mine.includes(one))
  const killedAt = performance.now()
  process.kill(pid!, 'SIGKILL')
  const drained = (async () => {
    for await (const piece of reading) expect(piece.length).toBeGreaterThan(0)
  })()
  await expect(drained).rejects.toMatchObject({ code: 'MOUNT_INTERRUPTED', retryable: true })
  expect(performance.now() - killedAt).toBeLessThan(ERROR_MS)
  expect(await mount.failed).toMatchObject({ code: 'MOUNT_INTERRUPTED' })
  // By then all of it has ended.
  expect(await traces(runFolder)).toEqual([])
  const after = new Map(await backingFiles())
  // What a file is called whose file system is gone from every namespace.
  for (const [name] of loops) expect(after.get(name) ?? '', name).not.toMatch(/^\/(disk)?$/)
  await expect(mount.reader.status(volumeOf(mount, 'linux'), '')).rejects.toMatchObject({ code: 'MOUNT_INTERRUPTED' })
})

it('leaves nothing when its opening is aborted', async () => {
  const runFolder = await temporaryFolder()
  const controller = new AbortController()
  const reason = new Error('enough')
  const opening = openKernelMount({ mountId: 'mount', links }, { runFolder }, controller.signal)
  onTestFinished(async () => (await opening.catch(() => null))?.close())
  // Its folder comes first; to look for its processes takes longer than a quiet machine takes to open it.
  await expect.poll(() => existsSync(join(runFolder, 'mount')), { interval: 1 }).toBe(true)
  controller.abort(reason)
  await expect(opening).rejects.toBe(reason)
  expect(await traces(runFolder)).toEqual([])
})
