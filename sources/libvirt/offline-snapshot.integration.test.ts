import { randomBytes } from 'node:crypto'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { failureOf } from '../../test/failure.ts'
import { createTestDomain, type TestDomain } from '../../test/libvirt-domain.ts'
import { readOpenDisk } from '../../test/open-disk-content.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../test/private-libvirt.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'
import { runTool } from '../../tools/run-tool.ts'
import type { Snapshot } from '../source.ts'
import { LibvirtConnection } from './connection.ts'
import { createHost } from './create-host.ts'
import { loadDomain, type DomainContext } from './domain-context.ts'
import type { IncludedDisk } from './included-disks.ts'
import { checkpointName } from './names.ts'
import { tellCheckpoint } from './offline-checkpoints.ts'
import { addBitmap, lookAtImage } from './offline-images.ts'
import { LibvirtSource } from './source.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')

const MIB = 1024 * 1024
let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let libvirt: PrivateLibvirt
let source: LibvirtSource
let connection: LibvirtConnection
let scratchFolder: string
let runFolder: string

beforeAll(async () => {
  folder = await createTemporaryFolder()
  libvirt = await startPrivateLibvirt({ folder: join(folder.path, 'l'), keep: true })
  scratchFolder = join(folder.path, 's')
  runFolder = join(folder.path, 'r')
  for (const path of [scratchFolder, runFolder]) await mkdir(path)
  const sourceConnection = { id: 'libvirt-1', config: { uri: libvirt.uri, scratch_folder: scratchFolder }, credentials: null }
  source = new LibvirtSource(runFolder, sourceConnection)
  connection = new LibvirtConnection(sourceConnection, runFolder)
})

afterAll(async () => {
  await libvirt?.stop()
  await folder?.remove()
})

let domain: TestDomain

beforeEach(async () => {
  domain = await createTestDomain(libvirt, { disks: [{ sizeBytes: 32 * MIB }], state: 'off' })
  return () => domain.destroy()
})

const published = (...changeIdsInUse: string[]) => ({ outcome: 'published' as const, changeIdsInUse })
const abandoned = { outcome: 'abandoned' as const, changeIdsInUse: [] }

function begin(backupId: string, parent?: string, disks = ['vda']): Promise<Snapshot> {
  const parentChangeIds = Object.fromEntries(parent === undefined ? [] : disks.map((disk) => [disk, checkpointName(parent)]))
  return source.beginSnapshot({ backupId, config: domain.config, parentChangeIds }, {})
}

function open(snapshot: Snapshot, index = 0) {
  return source.openDisk(domain.config, snapshot, index, { runFolder })
}

/** A whole backup of disk 0: the content that a restore of it would give. */
async function backUp(backupId: string, parent: { id: string; content: Buffer } | null) {
  const snapshot = await begin(backupId, parent?.id)
  const disk = await open(snapshot)
  const read = await readOpenDisk(disk, parent?.content ?? null)
  await disk.close()
  await source.endSnapshot(
    domain.config,
    backupId,
    published(checkpointName(backupId), checkpointName(parent?.id ?? backupId)),
    {},
  )
  return { id: backupId, snapshot, ...read }
}

async function running(work: () => Promise<void>): Promise<void> {
  await domain.start()
  await work()
  await domain.shutDown()
}

async function context(of = domain) {
  return loadDomain({ connection, host: createHost(connection, runFolder) }, of.config, {})
}

async function bitmaps(): Promise<string[]> {
  const { host, included } = await context()
  const found = await Promise.all(included.map(async (disk) => (await lookAtImage(host, disk, {})).bitmaps))
  return found.flat().map(({ name, inconsistent }) => (inconsistent ? `${name} (inconsistent)` : name))
}

/** Of the domain, shut off. */
async function traces(): Promise<object> {
  return { ...(await domain.traces(scratchFolder)), bitmaps: await bitmaps(), run: await readdir(runFolder) }
}

const none = { job: false, checkpoints: [], files: [], bitmaps: [], run: [] }

function firstDisk({ included }: DomainContext): IncludedDisk {
  const [disk] = included
  if (!disk) throw new Error('the domain has no disk')
  return disk
}

describe('a chain of backups', () => {
  it('goes on through backups of the domain shut off, running, and shut off again', async () => {
    await running(async () => domain.write(0, 0, randomBytes(4 * MIB)))
    const first = await backUp('b-1', null)
    expect(first.content.equals(await domain.content(0))).toBe(true)
    expect(first.snapshot).toMatchObject({ consistency: 'crash', disks: [{ changeId: 'holdfast-b-1', trackedSince: null }] })

    await domain.start()
    await domain.write(0, 2 * MIB, randomBytes(3 * MIB))
    await domain.zero(0, MIB, 65_536)
    await domain.discard(0, 0, 131_072)
    const second = await backUp('b-2', first)
    expect(second.content.equals(await domain.content(0))).toBe(true)
    expect(second.readBytes).toBeLessThan(5 * MIB)
    await domain.write(0, 8 * MIB, randomBytes(MIB))
    await domain.shutDown()

    const third = await backUp('b-3', second)
    expect(third.content.equals(await domain.content(0))).toBe(true)
    expect(third.readBytes).toBe(MIB)

    await domain.start()
    await domain.write(0, 20 * MIB, randomBytes(65_536))
    const fourth = await backUp('b-4', third)
    expect(fourth.content.equals(await domain.content(0))).toBe(true)
    expect(fourth.readBytes).toBe(65_536)
  })

  it('reads nothing when the domain never ran in between', async () => {
    await running(async () => domain.write(0, 0, randomBytes(MIB)))
    const first = await backUp('b-1', null)
    const second = await backUp('b-2', first)
    expect(second.readBytes).toBe(0)
    expect(await source.trackingSince(domain.config, { vda: 'holdfast-b-2' }, {})).toEqual({
      vda: { state: 'tracked', changedBytes: 0 },
    })
  })

  it('keeps only the checkpoints that are in use, and those of other programs', async () => {
    await domain.start()
    await domain.ask('checkpoint-create-as', 'foreign', '--diskspec', 'vda,checkpoint=bitmap')
    await domain.shutDown()
    const first = await backUp('b-1', null)
    await backUp('b-2', first)
    await source.endSnapshot(domain.config, 'b-2', published(), {})
    expect((await domain.traces(scratchFolder)).checkpoints.toSorted()).toEqual(['foreign', 'holdfast-b-2'])
    expect((await bitmaps()).toSorted()).toEqual(['foreign', 'holdfast-b-2'])
  })

  it('counts what changed', async () => {
    await backUp('b-1', null)
    await running(async () => domain.write(0, MIB, randomBytes(2 * MIB)))
    expect(await source.trackingSince(domain.config, { vda: 'holdfast-b-1' }, {})).toEqual({
      vda: { state: 'tracked', changedBytes: 2 * MIB },
    })
    expect(await readdir(runFolder)).toEqual([])
  })
})

describe('what cannot be tracked', () => {
  it('is lost after a crash of QEMU', async () => {
    await backUp('b-1', null)
    await domain.start()
    await domain.write(0, 0, randomBytes(MIB))
    await domain.crash()
    expect(await bitmaps()).toEqual(['holdfast-b-1 (inconsistent)'])
    const tracking = await source.trackingSince(domain.config, { vda: 'holdfast-b-1' }, {})
    expect(tracking).toMatchObject({ vda: { state: 'lost', fullReason: 'bitmap_lost' } })
    expect((await failureOf(begin('b-2', 'b-1'))).code).toBe('SOURCE_CHANGED')
    const full = await backUp('b-3', null)
    expect(full.content.equals(await domain.content(0))).toBe(true)
    await running(async () => domain.write(0, 4 * MIB, randomBytes(MIB)))
    expect((await backUp('b-4', full)).content.equals(await domain.content(0))).toBe(true)
  })

  it('is lost when another program removed the checkpoint or the bitmap', async () => {
    await backUp('b-1', null)
    const [disk] = domain.disks
    await runTool('qemu-img', ['bitmap', '--remove', disk?.path ?? '', 'holdfast-b-1'], { timeoutMs: 30_000 })
    const lost = await source.trackingSince(domain.config, { vda: 'holdfast-b-1' }, {})
    expect(lost).toMatchObject({ vda: { state: 'lost', fullReason: 'bitmap_lost' } })
    await domain.ask('checkpoint-delete', 'holdfast-b-1', '--metadata')
    const missing = await source.trackingSince(domain.config, { vda: 'holdfast-b-1' }, {})
    expect(missing).toMatchObject({ vda: { state: 'lost', fullReason: 'checkpoint_missing' } })
  })

  it('is untracked on raw images and old QCOW2 ones, which are served whole', async () => {
    const old = join(folder.path, 'old.qcow2')
    await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', old, '4M'], { timeoutMs: 30_000 })
    await domain.destroy()
    const disks = [{ sizeBytes: 4 * MIB, format: 'raw' as const }, { sizeBytes: 4 * MIB, path: old }, { sizeBytes: 4 * MIB }]
    domain = await createTestDomain(libvirt, { disks })
    for (const disk of [0, 1, 2]) await domain.write(disk, MIB, randomBytes(MIB))
    await domain.shutDown()
    const snapshot = await begin('b-1')
    expect(snapshot.disks.map(({ changeId }) => changeId)).toEqual([null, null, 'holdfast-b-1'])
    for (const index of [0, 1, 2]) {
      const disk = await open(snapshot, index)
      expect((await readOpenDisk(disk, null)).content.equals(await domain.content(index))).toBe(true)
      expect(disk.changes).toEqual({ type: 'compare-hashes' })
      await disk.close()
    }
    await source.endSnapshot(domain.config, 'b-1', published(), {})
    const asked = { vda: 'holdfast-b-1', vdb: 'holdfast-b-1', vdc: 'holdfast-b-1' }
    expect(await source.trackingSince(domain.config, asked, {})).toMatchObject({
      vda: { state: 'untracked' },
      vdb: { state: 'untracked' },
      vdc: { state: 'tracked' },
    })
    // A domain whose raw disks alone are backed up leaves no checkpoint, and the running one accepts what was told.
    await domain.start()
    expect(await source.trackingSince(domain.config, { vdc: 'holdfast-b-1' }, {})).toMatchObject({ vdc: { state: 'tracked' } })
  })

  it('is untracked on block devices, which another host may be writing to: nothing is put into their images', async () => {
    const { path } = domain.disks[0]!
    const device = (await runTool('losetup', ['--find', '--show', path], { timeoutMs: 30_000 })).stdout.trim()
    onTestFinished(async () => void (await runTool('losetup', ['--detach', device], { timeoutMs: 30_000 })))
    const asDevice = domain.xml().replace("type='file'", "type='block'").replace(`file='${path}'`, `dev='${device}'`)
    const file = join(domain.folder, 'block.xml')
    await writeFile(file, asDevice)
    await libvirt.ask('define', file)
    const snapshot = await begin('backup-block')
    expect(snapshot.disks).toMatchObject([{ key: 'vda', changeId: null, trackedSince: null }])
    const disk = await open(snapshot)
    expect((await readOpenDisk(disk, null)).content.equals(Buffer.alloc(32 * MIB))).toBe(true)
    await disk.close()
    await source.endSnapshot(domain.config, 'backup-block', published(), {})
    const info = await runTool('qemu-img', ['info', '--output=json', path], { timeoutMs: 30_000 })
    expect(info.stdout).not.toContain('bitmaps')
  })

  it('refuses an image whose base is of an untold format', async () => {
    const [base, top] = [join(folder.path, 'base.raw'), join(folder.path, 'top.qcow2')]
    await runTool('qemu-img', ['create', '-q', '-f', 'raw', base, '4M'], { timeoutMs: 30_000 })
    await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw', top], { timeoutMs: 30_000 })
    await domain.destroy()
    domain = await createTestDomain(libvirt, { disks: [{ sizeBytes: 0, path: top }], state: 'off' })
    const disk = await open(await begin('b-1'))
    expect((await readOpenDisk(disk, null)).content.equals(Buffer.alloc(4 * MIB))).toBe(true)
    await disk.close()
    // The header's extension that names the format; qemu-img itself no longer makes images without one.
    await runTool('python3', ['-c', FORGET_FORMAT, top], { timeoutMs: 30_000 })
    const error = await failureOf(begin('b-2'))
    expect(error).toMatchObject({ code: 'SOURCE_INVALID', message: expect.stringContaining('qemu-img rebase') })
  })
})

/** Turns the "backing file format" extension (0xE2792ACA) into one that nobody knows. */
const FORGET_FORMAT = `
import sys
with open(sys.argv[1], 'r+b') as image:
    header = image.read(65536)
    at = header.index(bytes.fromhex('e2792aca'))
    image.seek(at)
    image.write(bytes.fromhex('01020304'))
`

describe('a domain that starts meanwhile', () => {
  it('is not hindered, the backup says so, and what it then tracks is right', async () => {
    await running(async () => domain.write(0, 0, randomBytes(4 * MIB)))
    const first = await backUp('b-1', null)
    const snapshot = await begin('b-2', 'b-1')
    const disk = await open(snapshot)
    await readOpenDisk(disk, first.content)
    await domain.start()
    await domain.write(0, 6 * MIB, randomBytes(MIB))
    expect(await failureOf(disk.close())).toMatchObject({ code: 'SOURCE_CHANGED', retryable: false })
    expect((await failureOf(open(snapshot))).code).toBe('SOURCE_CHANGED')

    await source.endSnapshot(domain.config, 'b-2', abandoned, {})
    expect(await domain.traces(scratchFolder)).toMatchObject({ job: false, checkpoints: ['holdfast-b-1'] })
    const second = await backUp('b-3', first)
    expect(second.content.equals(await domain.content(0))).toBe(true)
    expect(second.readBytes).toBe(MIB)
  })

  it('has started for good when all had been read: the backup is good and tracked from', async () => {
    const snapshot = await begin('b-1')
    const disk = await open(snapshot)
    const { content } = await readOpenDisk(disk, null)
    await disk.close()
    await domain.start()
    await domain.write(0, MIB, randomBytes(MIB))
    await source.endSnapshot(domain.config, 'b-1', published(), {})
    const second = await backUp('b-2', { id: 'b-1', content })
    expect(second.content.equals(await domain.content(0))).toBe(true)
  })

  it('is noticed also when it has stopped again', async () => {
    const snapshot = await begin('b-1')
    const disk = await open(snapshot)
    await running(async () => domain.write(0, 0, randomBytes(65_536)))
    expect((await failureOf(disk.close())).code).toBe('SOURCE_CHANGED')
    expect((await failureOf(open(snapshot))).code).toBe('SOURCE_CHANGED')
    await source.endSnapshot(domain.config, 'b-1', abandoned, {})
    expect(await traces()).toEqual(none)
  })

  it('is noticed when an image is replaced', async () => {
    const snapshot = await begin('b-1')
    const [disk] = domain.disks
    const path = disk?.path ?? ''
    await runTool('sh', ['-c', 'cp "$1" "$1.new" && mv "$1.new" "$1"', 'sh', path], { timeoutMs: 30_000 })
    expect((await failureOf(open(snapshot))).code).toBe('SOURCE_CHANGED')
  })
})

describe('interruptions', () => {
  it.each([
    ['abandoned', abandoned],
    ['never begun', abandoned],
  ])('leaves the domain as it was: %s', async (what, end) => {
    if (what === 'abandoned') await begin('b-1')
    await source.endSnapshot(domain.config, 'b-1', end, {})
    await source.endSnapshot(domain.config, 'b-1', end, {})
    expect(await traces()).toEqual(none)
  })

  it('answers the same when it is asked again', async () => {
    const snapshot = await begin('b-1')
    const again = await begin('b-1')
    expect({ ...again, takenAt: '' }).toEqual({ ...snapshot, takenAt: '' })
    await (await open(snapshot)).close()
    expect((await domain.traces(scratchFolder)).checkpoints).toEqual(['holdfast-b-1'])
  })

  it('goes on after libvirt was told and the bitmap not added', async () => {
    await tellCheckpoint(await context(), { name: 'holdfast-b-1', targets: ['vda'], parent: null }, {})
    const first = await backUp('b-1', null)
    await running(async () => domain.write(0, 0, randomBytes(MIB)))
    expect((await backUp('b-2', first)).content.equals(await domain.content(0))).toBe(true)
  })

  it('takes back a bitmap of which libvirt was not told, and a checkpoint whose bitmap is gone', async () => {
    const place = await context()
    const disk = firstDisk(place)
    await addBitmap(place.host, disk, 'holdfast-b-1', {})
    await source.endSnapshot(domain.config, 'b-1', abandoned, {})
    expect(await traces()).toEqual(none)
    await tellCheckpoint(place, { name: 'holdfast-b-2', targets: ['vda'], parent: null }, {})
    await source.endSnapshot(domain.config, 'b-2', abandoned, {})
    expect(await traces()).toEqual(none)
  })

  it.each(['before', 'after'])('begins live where an attempt died %s the first bitmap', async (when) => {
    const place = await context()
    const disk = firstDisk(place)
    await domain.addDisk({ sizeBytes: MIB })
    await tellCheckpoint(place, { name: 'holdfast-b-1', targets: ['vda', 'vdb'], parent: null }, {})
    if (when === 'after') await addBitmap(place.host, disk, 'holdfast-b-1', {})
    await domain.start()
    await domain.write(0, 0, randomBytes(MIB))
    const first = await backUp('b-1', null)
    await domain.write(0, 2 * MIB, randomBytes(MIB))
    expect((await backUp('b-2', first)).content.equals(await domain.content(0))).toBe(true)
  })

  it('leaves nothing when a disk is not there', async () => {
    await domain.addDisk({ sizeBytes: MIB })
    const [, second] = domain.disks
    await runTool('rm', [second?.path ?? ''], { timeoutMs: 30_000 })
    expect((await failureOf(begin('b-1'))).code).toBe('SOURCE_NOT_FOUND')
    expect((await domain.traces(scratchFolder)).checkpoints).toEqual([])
    const place = await context()
    expect((await lookAtImage(place.host, firstDisk(place), {})).bitmaps).toEqual([])
  })

  it('takes a disk that was added between two attempts', async () => {
    await begin('b-1')
    await domain.addDisk({ sizeBytes: MIB })
    const snapshot = await begin('b-1')
    expect(snapshot.disks.map(({ changeId }) => changeId)).toEqual(['holdfast-b-1', 'holdfast-b-1'])
    await domain.start()
    expect(await source.trackingSince(domain.config, { vda: 'holdfast-b-1', vdb: 'holdfast-b-1' }, {})).toMatchObject({
      vda: { state: 'tracked' },
      vdb: { state: 'tracked' },
    })
  })
})
