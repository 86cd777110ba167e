import { mkdir, link, open, readdir, readlink, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { expect, it, onTestFinished } from 'vitest'
import { HoldfastError } from '../../domain/errors.ts'
import type { Volume } from '../../domain/restore-mount.ts'
import { MIB, noise } from '../../test/disk-backups.ts'
import { temporaryFolder } from '../../test/temporary-folder.ts'
import { runTool } from '../../tools/run-tool.ts'
import { nameFromBytes } from '../file-names.ts'
import type { ByteRange, FileReader } from '../file-reader.ts'
import { createFolderReader, type FolderKeeper } from './folder-reader.ts'

const volume: Volume = { id: 'disk', state: 'readable', fileSystem: 'ext4', label: '', uuid: '', sizeBytes: MIB, note: '' }
const everything = { first: 0, most: 10_000 }
const whole = { offset: 0, length: Number.MAX_SAFE_INTEGER }

function readerOf(folder: string, keeper?: FolderKeeper): FileReader {
  const reader = createFolderReader([{ volume, folder }], keeper)
  onTestFinished(() => reader.close())
  return reader
}

async function content(reader: FileReader, path: string, range: ByteRange = whole): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for await (const piece of reader.read(volume, path, range)) pieces.push(piece)
  return Buffer.concat(pieces)
}

/** Descriptors of this process on something below a folder. */
async function openBelow(folder: string): Promise<string[]> {
  const names = await readdir('/proc/self/fd')
  const paths = await Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')))
  return paths.filter((path) => path.startsWith(folder))
}

it('lists names in the order of their bytes, whatever they hold, page by page', async () => {
  const folder = await temporaryFolder()
  const names = [
    Buffer.from('a\nb'),
    Buffer.from('ä'),
    Buffer.from([0x66, 0xff, 0x80]),
    Buffer.alloc(255, 0x7a),
    Buffer.from('B'),
    Buffer.from(' '),
  ]
  for (const name of names) await writeFile(Buffer.concat([Buffer.from(`${folder}/`), name]), name)
  const reader = readerOf(folder)
  const sorted = names.toSorted((one, other) => Buffer.compare(one, other)).map((name) => nameFromBytes(name))
  const { total, entries } = await reader.list(volume, '', everything)
  expect(total).toBe(names.length)
  expect(entries.map(({ name }) => name)).toEqual(sorted)
  const page = await reader.list(volume, '', { first: 2, most: 3 })
  expect(page).toEqual({ total, entries: entries.slice(2, 5) })
  expect((await reader.list(volume, '', { first: 9, most: 3 })).entries).toEqual([])
  for (const name of names) expect(await content(reader, nameFromBytes(name))).toEqual(name)
})

it('says what the file system says', async () => {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'file'), 'twelve bytes', { mode: 0o640 })
  await link(join(folder, 'file'), join(folder, 'other'))
  await runTool('touch', ['--date=1969-12-31T23:59:58.5Z', join(folder, 'file')], { timeoutMs: 10_000 })
  await mkdir(join(folder, 'sub'))
  await symlink('/etc/shadow', join(folder, 'sub', 'link'))
  const reader = readerOf(folder)
  const file = await reader.status(volume, 'file')
  expect(file).toMatchObject({ kind: 'file', mode: 0o640, uid: process.getuid?.(), sizeBytes: 12, links: 2, target: null })
  expect([file.modifiedSeconds, file.modifiedNanoseconds]).toEqual([-2, 500_000_000])
  expect((await reader.status(volume, 'other')).inode).toBe(file.inode)
  expect(await reader.status(volume, '')).toMatchObject({ kind: 'directory', sizeBytes: 0 })
  expect(await reader.status(volume, 'sub/link')).toMatchObject({ kind: 'symlink', target: '/etc/shadow', sizeBytes: 0 })
})

it('leads nowhere but below its folder', async () => {
  const folder = await temporaryFolder()
  await mkdir(join(folder, 'volume', 'sub'), { recursive: true })
  await writeFile(join(folder, 'secret'), 'secret')
  await symlink('..', join(folder, 'volume', 'up'))
  await symlink('loop', join(folder, 'volume', 'loop'))
  await symlink(join(folder, 'secret'), join(folder, 'volume', 'link'))
  const reader = readerOf(join(folder, 'volume'))
  for (const path of [
    '../secret',
    'sub/../../secret',
    '.',
    '..',
    '/etc',
    'sub//x',
    'sub/',
    'a\0b',
    'x'.repeat(300),
    'sub/none',
  ]) {
    await expect(reader.status(volume, path), path).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
  }
  for (const path of ['up/secret', 'loop/x', 'link/x']) {
    await expect(reader.status(volume, path), path).rejects.toMatchObject({ code: 'NOT_A_DIRECTORY' })
  }
  for (const path of ['up', 'loop', 'link']) {
    await expect(reader.list(volume, path, everything), path).rejects.toMatchObject({ code: 'NOT_A_DIRECTORY' })
    await expect(content(reader, path), path).rejects.toMatchObject({ code: 'NOT_A_FILE' })
  }
})

it('opens regular files only, and waits for no pipe', async () => {
  const folder = await temporaryFolder()
  await runTool('mkfifo', [join(folder, 'pipe')], { timeoutMs: 10_000 })
  await mkdir(join(folder, 'sub'))
  const reader = readerOf(folder)
  expect(await reader.status(volume, 'pipe')).toMatchObject({ kind: 'fifo' })
  for (const path of ['pipe', 'sub', '']) await expect(content(reader, path), path).rejects.toMatchObject({ code: 'NOT_A_FILE' })
  await expect(content(reader, 'none')).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
})

it('reads deeper than any path may be long', async () => {
  const folder = await temporaryFolder()
  const name = 'level-of-many'
  const levels = 3_000
  const outermost = join(folder, 'outermost')
  await mkdir(outermost)
  // What removes the folder itself goes by paths, and no call takes such a long one.
  onTestFinished(async () => void (await runTool('rm', ['-rf', outermost], { timeoutMs: 60_000 })))
  const make =
    'my ($name, $levels) = @ARGV; for (1 .. $levels) { mkdir $name; chdir $name } open my $file, ">", "file"; print $file "deep"'
  await runTool('perl', ['-e', make, name, String(levels)], { timeoutMs: 60_000, cwd: outermost })
  const reader = readerOf(folder)
  const path = ['outermost', ...Array.from({ length: levels }, () => name)].join('/')
  expect((await reader.list(volume, path, everything)).entries).toMatchObject([{ name: 'file', status: { sizeBytes: 4 } }])
  expect((await content(reader, `${path}/file`)).toString()).toBe('deep')
  await expect(reader.status(volume, `${path}/file/x`)).rejects.toMatchObject({ code: 'NOT_A_DIRECTORY' })
})

it('reads ranges, holes and what lies beyond the end', async () => {
  const folder = await temporaryFolder()
  const bytes = noise(5 * MIB + 11, 3)
  await writeFile(join(folder, 'file'), bytes)
  await truncate(join(folder, 'file'), 9 * MIB)
  const expected = Buffer.concat([bytes, Buffer.alloc(9 * MIB - bytes.length)])
  const reader = readerOf(folder)
  for (const [offset, length] of [
    [0, 9 * MIB],
    [1, 3 * MIB],
    [5 * MIB, 4 * MIB],
    [9 * MIB - 1, 100],
    [9 * MIB, 100],
    [2 ** 50, 2 ** 53 - 1],
    [17, 0],
  ] as const) {
    const found = await content(reader, 'file', { offset, length })
    expect(found.equals(expected.subarray(offset, offset + length)), `${length} bytes at ${offset}`).toBe(true)
  }
})

it('reads no further ahead than a few pieces, and closes what is left behind', async () => {
  const folder = await temporaryFolder()
  const file = await open(join(folder, 'file'), 'w')
  await file.truncate(512 * MIB)
  await file.close()
  const reader = readerOf(folder)
  const before = process.memoryUsage().arrayBuffers
  const reading = reader.read(volume, 'file', whole)
  let taken = 0
  for await (const piece of reading) {
    expect(piece.length).toBeLessThanOrEqual(2 * MIB)
    // Slower than the disk: time for it to read on, if it did.
    for (let turns = 0; turns < 50; turns++) await turn()
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32 * MIB)
    if (++taken === 10) break
  }
  await expect.poll(() => openBelow(join(folder, 'file'))).toEqual([])
})

it('ends with the reason of an abort, and leaves no file open', async () => {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'file'), noise(8 * MIB, 1))
  const reader = readerOf(folder)
  const controller = new AbortController()
  const reason = new Error('enough')
  const reading = reader.read(volume, 'file', whole, controller.signal)
  await reading.next()
  controller.abort(reason)
  // Without being asked for the next piece.
  await expect.poll(() => openBelow(join(folder, 'file'))).toEqual([])
  await expect(reading.next()).rejects.toBe(reason)
  await expect(reader.list(volume, '', everything, controller.signal)).rejects.toBe(reason)
  await expect(reader.status(volume, 'file', controller.signal)).rejects.toBe(reason)
})

it('ends everything when it is closed', async () => {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'file'), noise(8 * MIB, 1))
  const reader = createFolderReader([{ volume, folder }])
  const reading = reader.read(volume, 'file', whole)
  await reading.next()
  const listing = reader.list(volume, '', everything)
  const closing = reader.close()
  await expect(listing).rejects.toMatchObject({ code: 'MOUNT_INTERRUPTED', retryable: true })
  await expect(reading.next()).rejects.toMatchObject({ code: 'MOUNT_INTERRUPTED' })
  await closing
  await reader.close()
  expect(await openBelow(folder)).toEqual([])
  await expect(reader.status(volume, '')).rejects.toMatchObject({ code: 'MOUNT_INTERRUPTED' })
})

it('ends everything when what keeps the folder is gone', async () => {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'file'), noise(8 * MIB, 1))
  const { promise: failed, resolve } = Promise.withResolvers<HoldfastError>()
  const reader = readerOf(folder, { failed, isGone: async () => false })
  const reading = reader.read(volume, 'file', whole)
  await reading.next()
  const reason = new HoldfastError('MOUNT_INTERRUPTED', 'The disk is gone.')
  resolve(reason)
  expect(await reader.failed).toBe(reason)
  await expect(reading.next()).rejects.toBe(reason)
  await expect(reader.status(volume, '')).rejects.toBe(reason)
})

it('keeps few folders open', async () => {
  const folder = await temporaryFolder()
  const reader = readerOf(folder)
  for (let number = 0; number < 100; number++) await mkdir(join(folder, String(number)))
  await Promise.all(Array.from({ length: 100 }, (_, number) => reader.list(volume, String(number), everything)))
  expect((await openBelow(folder)).length).toBeLessThanOrEqual(16)
})
