import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { imagePath, type ChainLink } from '../disks/chain.ts'
import { backUpImage, MIB, noise, processesNaming, writeImage } from '../test/disk-backups.ts'
import { failureOf } from '../test/failure.ts'
import { requireTool } from '../test/requires.ts'
import { createTemporaryFolder, temporaryFolder } from '../test/temporary-folder.ts'
import { runTool } from '../tools/run-tool.ts'
import { openRoom, type Room } from './room.ts'

requireTool('qemu-storage-daemon')
requireTool('unshare')

/** Not a multiple of a cluster. */
const SIZE_BYTES = 5 * MIB + 512
const owner = { uid: 65_534, gid: 65_534 }

let storage: Awaited<ReturnType<typeof createTemporaryFolder>>
let links: ChainLink[]
let content: Buffer

beforeAll(async () => {
  storage = await createTemporaryFolder()
  const folder = join(storage.path, 'backups')
  const imagePath = join(storage.path, 'disk.raw')
  await writeImage(imagePath, SIZE_BYTES, [[0, noise(2 * MIB, 1)]])
  const full = await backUpImage({ folder, backupId: 'full', imagePath, sizeBytes: SIZE_BYTES })
  await writeImage(imagePath, SIZE_BYTES, [[MIB, noise(3 * MIB, 2)]])
  const parent = full.links
  links = (await backUpImage({ folder, backupId: 'increment', imagePath, sizeBytes: SIZE_BYTES, parent })).links
  content = await readFile(imagePath)
})

afterAll(() => storage.remove())

async function room(folder: string): Promise<Room> {
  const opened = await openRoom({ links, folder, tmpfsBytes: MIB, owner })
  onTestFinished(() => opened.close())
  return opened
}

/** What a room could leave behind on the host, besides its folder. */
async function traces(folder: string): Promise<string[]> {
  const mounts = (await readFile('/proc/mounts', 'utf8')).split('\n').filter((line) => line.includes(folder))
  return [...mounts, ...(await processesNaming(folder)).map(String)]
}

it('shows the newest disk as one file, to root and to its owner only', async () => {
  const folder = join(await temporaryFolder(), 'room')
  const { device, enter } = await room(folder)
  const found = await readFile(device)
  expect(createHash('sha256').update(found).digest('hex')).toBe(createHash('sha256').update(content).digest('hex'))
  expect(await stat(device)).toMatchObject({ uid: 65_534, gid: 65_534, mode: 0o100400, size: SIZE_BYTES })
  await expect(writeFile(device, 'x', { flag: 'r+' })).rejects.toMatchObject({ code: 'EACCES' })
  const [program, args] = enter('stat', ['--format=%s', join(folder, 'disk')])
  expect(await runTool(program, args, { timeoutMs: 10_000 })).toMatchObject({ stdout: `${SIZE_BYTES}\n` })
  // The host itself sees nothing there.
  expect(await readdir(folder)).toEqual([])
})

it('leaves nothing when it is closed', async () => {
  const folder = join(await temporaryFolder(), 'room')
  const opened = await room(folder)
  await Promise.all([opened.close(), opened.close()])
  await opened.close()
  expect(await traces(folder)).toEqual([])
  await expect(stat(folder)).rejects.toMatchObject({ code: 'ENOENT' })
  expect(await Promise.race([opened.failed, Promise.resolve('nothing')])).toBe('nothing')
})

it('tells of an exporter that was killed, and leaves nothing', async () => {
  const folder = join(await temporaryFolder(), 'room')
  const opened = await room(folder)
  process.kill(opened.pid, 'SIGKILL')
  expect(await opened.failed).toMatchObject({ code: 'MOUNT_INTERRUPTED', cause: { details: { signal: 'SIGKILL' } } })
  await opened.close()
  expect(await traces(folder)).toEqual([])
  await expect(stat(folder)).rejects.toMatchObject({ code: 'ENOENT' })
})

it('leaves nothing when its opening is aborted', async () => {
  const folder = join(await temporaryFolder(), 'room')
  const controller = new AbortController()
  const reason = new Error('enough')
  const opening = openRoom({ links, folder, tmpfsBytes: MIB, owner }, controller.signal)
  onTestFinished(async () => (await opening.catch(() => null))?.close())
  // The folder comes just before the exporter, which needs tens of milliseconds.
  await expect.poll(() => existsSync(folder), { interval: 1 }).toBe(true)
  await setImmediate()
  controller.abort(reason)
  await expect(opening).rejects.toBe(reason)
  expect(await traces(folder)).toEqual([])
  await expect(stat(folder)).rejects.toMatchObject({ code: 'ENOENT' })
})

it('refuses a chain that was changed, before anything starts', async () => {
  const folder = join(await temporaryFolder(), 'room')
  const foreign = links.map((link) => ({ ...link, disk: { ...link.disk, size_bytes: SIZE_BYTES + 512 } }))
  await expect(openRoom({ links: foreign, folder, tmpfsBytes: MIB, owner })).rejects.toMatchObject({ code: 'CORRUPT_CHAIN' })
  await expect(stat(folder)).rejects.toMatchObject({ code: 'ENOENT' })
})

it('says what the exporter said when it cannot open the chain', async () => {
  const base = await temporaryFolder()
  const folder = join(base, 'room')
  const newest = links.at(-1)!
  // A header that is as it should be, and a table of clusters that lies.
  const backups = join(base, 'backups')
  await mkdir(join(backups, 'increment'), { recursive: true })
  await runTool('cp', ['-r', join(newest.folder, '..', 'full'), backups], { timeoutMs: 10_000 })
  const copies = links.map((link) => ({ ...link, folder: join(backups, link.backupId) }))
  const bytes = await readFile(imagePath(newest))
  bytes.writeBigUInt64BE(0x1234_5600n, 40)
  await writeFile(imagePath(copies[1]!), bytes)
  const error = await failureOf(openRoom({ links: copies, folder, tmpfsBytes: MIB, owner }))
  expect(error).toMatchObject({ code: 'TOOL_FAILED', message: expect.stringContaining('qemu-storage-daemon:') })
  await expect(stat(folder)).rejects.toMatchObject({ code: 'ENOENT' })
})
