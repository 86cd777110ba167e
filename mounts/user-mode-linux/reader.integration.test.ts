import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { link, mkdir, open, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import type { ChainLink } from '../../disks/chain.ts'
import type { Volume } from '../../domain/restore-mount.ts'
import { backUpImage, MIB, noise, processesNaming, prose } from '../../test/disk-backups.ts'
import { failureOf } from '../../test/failure.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'
import { runTool } from '../../tools/run-tool.ts'
import type { FileReader } from '../file-reader.ts'
import { createMountOpener } from '../open-restore-mount.ts'
import type { RestoreMount } from '../restore-mount.ts'
import { createUserModeLinux } from './open-user-mode-linux.ts'

for (const tool of ['linux.uml', 'qemu-storage-daemon', 'bwrap', 'mkfs.ext4', 'mkswap']) requireTool(tool)

const SIZE_BYTES = 96 * MIB
const LARGE_BYTES = 40 * MIB + 12_345
const invalidUtf8 = Buffer.from('caf\xe9', 'latin1')
const files = new Map<string, Buffer>([
  ['large.bin', noise(LARGE_BYTES, 1)],
  ['empty', Buffer.alloc(0)],
  ['etc/hosts', prose(3_000, 2)],
  ['etc/deep/er/file', prose(2 * MIB, 3)],
  ['name\nwith newline', prose(10, 4)],
  ['x'.repeat(255), prose(20, 5)],
  ['caf\uf7e9', prose(30, 6)],
])

let storage: Awaited<ReturnType<typeof createTemporaryFolder>>
let links: ChainLink[]
let mount: RestoreMount

beforeAll(async () => {
  storage = await createTemporaryFolder()
  links = await goldenChain(storage.path)
  mount = await opener()({ mountId: 'shared', links })
})

afterAll(async () => {
  await mount?.close()
  await storage.remove()
})

/** A full of an older state, and an increment. */
async function goldenChain(base: string): Promise<ChainLink[]> {
  const [tree, imagePath, folder] = [join(base, 'tree'), join(base, 'disk.raw'), join(base, 'backups')]
  await mkdir(join(tree, 'etc/deep/er'), { recursive: true })
  await writeFile(join(tree, 'etc/hosts'), 'older')
  await makeExt4(imagePath, tree)
  const parent = (await backUpImage({ folder, backupId: 'full', imagePath, sizeBytes: SIZE_BYTES })).links
  for (const [path, content] of files) {
    if (path.startsWith('caf')) await writeFile(Buffer.concat([Buffer.from(`${tree}/`), invalidUtf8]), content)
    else await writeFile(join(tree, path), content)
  }
  await symlink('/etc/shadow', join(tree, 'to-shadow'))
  await symlink('etc', join(tree, 'to-etc'))
  await symlink('loop', join(tree, 'loop'))
  await link(join(tree, 'etc/hosts'), join(tree, 'hosts-again'))
  await runTool('mkfifo', [join(tree, 'pipe')], { timeoutMs: 10_000 })
  await runTool('mknod', [join(tree, 'memory'), 'c', '1', '1'], { timeoutMs: 10_000 })
  await makeExt4(imagePath, tree)
  return (await backUpImage({ folder, backupId: 'increment', imagePath, sizeBytes: SIZE_BYTES, parent })).links
}

async function makeExt4(path: string, tree: string): Promise<void> {
  await runTool('mkfs.ext4', ['-q', '-F', '-d', tree, path, `${SIZE_BYTES / 1024}k`], { timeoutMs: 60_000 })
}

function paths(): { runFolder: string; cacheFolder: string } {
  return { runFolder: join(storage.path, 'run'), cacheFolder: join(storage.path, 'cache') }
}

function opener(): ReturnType<typeof createMountOpener> {
  return createMountOpener({ driver: 'user-mode-linux', ...paths() })
}

function disk(reader: FileReader = mount.reader): Volume {
  return reader.volumes[0]!
}

async function contentOf(reader: FileReader, path: string, range = { offset: 0, length: 1024 * MIB }): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for await (const piece of reader.read(disk(reader), path, range)) pieces.push(piece)
  return Buffer.concat(pieces)
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** The ids of a process and all that it started. */
async function familyOf(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')
  const ids = children.split(' ').filter((id) => id !== '')
  return [pid, ...(await Promise.all(ids.map((id) => familyOf(Number(id))))).flat()]
}

/** All processes of a mount, its kernel's among them. */
async function processesOf({ folder }: RestoreMount): Promise<number[]> {
  return [...new Set((await Promise.all((await processesNaming(folder)).map(familyOf))).flat())]
}

async function kernelOf(opened: RestoreMount): Promise<number> {
  for (const pid of await processesOf(opened)) {
    const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')
    if (name.startsWith('linux.uml')) return pid
  }
  return expect.unreachable('the mount has no kernel')
}

async function expectNothingLeft(folder: string, processes: readonly number[]): Promise<void> {
  // One whose parent has not taken note yet is gone all the same.
  const running = await Promise.all(processes.map((pid) => readFile(`/proc/${pid}/stat`, 'latin1').catch(() => ' Z ')))
  expect(running.filter((stat) => !/ [ZX] /.test(stat))).toEqual([])
  expect(await processesNaming(folder)).toEqual([])
  expect(await readFile('/proc/mounts', 'utf8')).not.toContain(folder)
  expect((await runTool('losetup', ['--list', '--output', 'BACK-FILE'], { timeoutMs: 10_000 })).stdout).not.toContain(folder)
  expect(existsSync(folder)).toBe(false)
}

it('shows one volume, and every file as it was', async () => {
  expect(mount.reader.volumes).toMatchObject([{ id: 'disk', state: 'readable', fileSystem: 'ext4', sizeBytes: SIZE_BYTES }])
  for (const [path, content] of files) {
    expect(await mount.reader.status(disk(), path)).toMatchObject({ kind: 'file', sizeBytes: content.length })
    expect([path, sha256(await contentOf(mount.reader, path))]).toEqual([path, sha256(content)])
  }
  const range = { offset: 3 * MIB - 1, length: 4 * MIB + 2 }
  const part = files.get('large.bin')!.subarray(range.offset, range.offset + range.length)
  expect(sha256(await contentOf(mount.reader, 'large.bin', range))).toBe(sha256(part))
})

it('lists a folder in the order of the bytes of its names, by pages', async () => {
  const all = await mount.reader.list(disk(), '', { first: 0, most: 100 })
  expect(all.entries.map(({ name, status }) => [name, status?.kind])).toEqual([
    ['caf\uf7e9', 'file'],
    ['empty', 'file'],
    ['etc', 'directory'],
    ['hosts-again', 'file'],
    ['large.bin', 'file'],
    ['loop', 'symlink'],
    ['lost+found', 'directory'],
    ['memory', 'character-device'],
    ['name\nwith newline', 'file'],
    ['pipe', 'fifo'],
    ['to-etc', 'symlink'],
    ['to-shadow', 'symlink'],
    ['x'.repeat(255), 'file'],
  ])
  expect(all.entries.at(-2)?.status).toMatchObject({ target: '/etc/shadow', sizeBytes: 0 })
  expect(all.entries[3]?.status).toMatchObject({ links: 2, inode: (await mount.reader.status(disk(), 'etc/hosts')).inode })
  const page = await mount.reader.list(disk(), '', { first: 11, most: 100 })
  expect(page).toEqual({ total: 13, entries: all.entries.slice(11) })
  expect(await mount.reader.list(disk(), '', { first: 13, most: 1 })).toEqual({ total: 13, entries: [] })
})

it('opens nothing but files, and follows no link', async () => {
  for (const path of ['pipe', 'memory', 'etc', 'to-shadow', '']) {
    expect([path, await failureOf(contentOf(mount.reader, path))]).toMatchObject([path, { code: 'NOT_A_FILE' }])
  }
  for (const path of ['to-etc/hosts', 'loop/x', 'etc/hosts/x']) {
    expect([path, await failureOf(contentOf(mount.reader, path))]).toMatchObject([path, { code: 'NOT_A_DIRECTORY' }])
    expect([path, await failureOf(mount.reader.status(disk(), path))]).toMatchObject([path, { code: 'NOT_A_DIRECTORY' }])
  }
  const page = { first: 0, most: 1 }
  await expect(mount.reader.list(disk(), 'to-etc', page)).rejects.toMatchObject({ code: 'NOT_A_DIRECTORY' })
  await expect(mount.reader.list(disk(), 'large.bin', page)).rejects.toMatchObject({ code: 'NOT_A_DIRECTORY' })
  for (const path of [
    '..',
    'etc/../..',
    '../reader.pl',
    'absent',
    'x'.repeat(300),
    'd/'.repeat(10_000) + 'd',
    'y'.repeat(90_000),
  ]) {
    expect((await failureOf(mount.reader.status(disk(), path))).code).toBe('FILE_NOT_FOUND')
    expect((await failureOf(contentOf(mount.reader, path))).code).toBe('FILE_NOT_FOUND')
  }
})

it('reads several files at a time, with listings in between', async () => {
  const order: string[] = []
  const take = async (name: string): Promise<string> => {
    const hash = createHash('sha256')
    for await (const piece of mount.reader.read(disk(), 'large.bin', { offset: 0, length: LARGE_BYTES })) {
      hash.update(piece)
      order.push(name)
    }
    return hash.digest('hex')
  }
  const expected = sha256(files.get('large.bin')!)
  const listing = mount.reader.list(disk(), 'etc', { first: 0, most: 10 }).then(() => order.push('listing'))
  expect(await Promise.all([take('one'), take('two'), listing])).toMatchObject([expected, expected, expect.anything()])
  // Neither waits for the other's end, and the listing for neither.
  expect(order.indexOf('two')).toBeLessThan(order.lastIndexOf('one') - 5)
  expect(order.indexOf('one')).toBeLessThan(order.lastIndexOf('two') - 5)
  expect(order.indexOf('listing')).toBeLessThan(10)
})

it('reads ahead only a little for somebody who is slow', async () => {
  const before = process.memoryUsage().arrayBuffers
  const pieces = mount.reader.read(disk(), 'large.bin', { offset: 0, length: LARGE_BYTES })
  await pieces.next()
  // Time for much more than is allowed: what is answered later was asked later.
  for (let turn = 0; turn < 50; turn++) await mount.reader.status(disk(), 'empty')
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * MIB)
  await pieces.return?.()
  expect(sha256(await contentOf(mount.reader, 'etc/hosts'))).toBe(sha256(files.get('etc/hosts')!))
})

it('stops for an abort, and goes on for others', async () => {
  const reason = new Error('enough')
  const controller = new AbortController()
  const pieces = mount.reader.read(disk(), 'large.bin', { offset: 0, length: LARGE_BYTES }, controller.signal)
  await pieces.next()
  controller.abort(reason)
  await expect(
    (async () => {
      for await (const piece of pieces) expect(piece.length).toBeGreaterThan(0)
    })(),
  ).rejects.toBe(reason)
  await expect(mount.reader.status(disk(), 'empty', controller.signal)).rejects.toBe(reason)
  expect(await mount.reader.status(disk(), 'empty')).toMatchObject({ kind: 'file' })
})

it.each(['exporter', 'kernel'])('ends with MOUNT_INTERRUPTED when its %s is killed, and leaves nothing', async (victim) => {
  const opened = await opener()({ mountId: victim, links })
  onTestFinished(() => opened.close())
  const processes = await processesOf(opened)
  const exporter = Number(/^\/proc\/(\d+)\//.exec(opened.device)?.[1])
  const target = victim === 'exporter' ? exporter : await kernelOf(opened)
  const pieces = opened.reader.read(disk(opened.reader), 'large.bin', { offset: 0, length: LARGE_BYTES })
  await pieces.next()
  const killedAt = performance.now()
  process.kill(target, 'SIGKILL')
  const reading = (async () => {
    for (;;)
      for await (const piece of opened.reader.read(disk(opened.reader), 'large.bin', { offset: 0, length: LARGE_BYTES }))
        piece.fill(0)
  })()
  // What the exporter no longer gives may be told as a place that cannot be read, just before.
  expect(['MOUNT_INTERRUPTED', 'FILE_READ_FAILED']).toContain((await failureOf(reading)).code)
  expect(await opened.failed).toMatchObject({ code: 'MOUNT_INTERRUPTED' })
  expect(performance.now() - killedAt).toBeLessThan(5_000)
  await expect(opened.reader.status(disk(opened.reader), 'empty')).rejects.toMatchObject({ code: 'MOUNT_INTERRUPTED' })
  await expectNothingLeft(opened.folder, processes)
})

it('leaves nothing when it is closed while somebody reads', async () => {
  const opened = await opener()({ mountId: 'closed', links })
  onTestFinished(() => opened.close())
  const processes = await processesOf(opened)
  expect(processes.length).toBeGreaterThan(3)
  const reading = failureOf(contentOf(opened.reader, 'large.bin'))
  await Promise.all([opened.close(), opened.close()])
  expect(await reading).toMatchObject({ code: 'MOUNT_INTERRUPTED' })
  await expectNothingLeft(opened.folder, processes)
})

it('leaves nothing when its opening is aborted', async () => {
  const controller = new AbortController()
  const reason = new Error('enough')
  const opening = opener()({ mountId: 'aborted', links }, controller.signal)
  onTestFinished(async () => (await opening.catch(() => null))?.close())
  const folder = join(paths().runFolder, 'aborted')
  // bwrap names the room twice, the exporter three times: both are there.
  await expect.poll(async () => (await processesNaming(folder)).length, { interval: 5 }).toBeGreaterThan(1)
  const processes = (await Promise.all((await processesNaming(folder)).map(familyOf))).flat()
  controller.abort(reason)
  await expect(opening).rejects.toBe(reason)
  await expectNothingLeft(folder, processes)
})

it('gives a kernel that says nothing up', async () => {
  const open = createUserModeLinux({ ...paths(), startTimeoutMs: 50 })
  await expect(open({ mountId: 'silent', links })).rejects.toMatchObject({
    code: 'TOOL_TIMEOUT',
    message: expect.stringContaining('50 ms'),
  })
  await expectNothingLeft(join(paths().runFolder, 'silent'), [])
})

it('says what is on a disk that holds no file system', async () => {
  const folder = join(storage.path, 'swap')
  const imagePath = join(storage.path, 'swap.raw')
  const file = await open(imagePath, 'w')
  await file.truncate(MIB)
  await file.close()
  await runTool('mkswap', ['--label', 'pages', imagePath], { timeoutMs: 10_000 })
  const chain = (await backUpImage({ folder, backupId: 'full', imagePath, sizeBytes: MIB })).links
  expect(await failureOf(opener()({ mountId: 'swap', links: chain }))).toMatchObject({
    code: 'FILE_SYSTEM_UNREADABLE',
    message: expect.stringContaining('disk is swap'),
    details: { volumes: [{ id: 'disk', state: 'swap', label: 'pages' }] },
  })
  await expectNothingLeft(join(paths().runFolder, 'swap'), [])
  // One archive, however many mounts and openers there were, and no drafts.
  expect(await readdir(paths().cacheFolder)).toHaveLength(1)
})
