import { randomBytes } from 'node:crypto'
import { mkdir, readdir, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { agentChannelXml, createTestDomain, type TestDomain } from '../../test/libvirt-domain.ts'
import { createTestSource, scratchFolderOf } from '../../test/libvirt-source.ts'
import { readOpenDisk } from '../../test/open-disk-content.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../test/private-libvirt.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'
import { runTool } from '../../tools/run-tool.ts'
import type { OpenDisk, Snapshot } from '../source.ts'
import type { LibvirtSource } from './source.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')

const MIB = 1024 * 1024

let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let libvirt: PrivateLibvirt
let source: LibvirtSource
let domain: TestDomain
let smallFolder: string

beforeAll(async () => {
  folder = await createTemporaryFolder()
  // Before libvirtd: it sees the mounts of the moment at which it starts.
  smallFolder = join(folder.path, 'small')
  await mkdir(smallFolder)
  await runTool('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', smallFolder], { timeoutMs: 30_000 })
  libvirt = await startPrivateLibvirt({ keep: true, folder: folder.path })
})
afterAll(async () => {
  await libvirt.stop()
  await runTool('umount', ['--lazy', smallFolder], { timeoutMs: 30_000 })
  await folder.remove()
})
beforeEach(async () => {
  source = await createTestSource(libvirt)
  domain = await createTestDomain(libvirt, { disks: [{ sizeBytes: 2 * MIB }, { sizeBytes: MIB }] })
  await domain.write(0, 0, randomBytes(MIB))
})
afterEach(() => domain.destroy())

const clean = { job: false, checkpoints: [], files: [] }
const changed = { code: 'SOURCE_CHANGED', retryable: false }

function begin(backupId: string, parentChangeIds: Record<string, string> = {}, of = source): Promise<Snapshot> {
  return of.beginSnapshot({ backupId, config: domain.config, parentChangeIds }, {})
}

function open(snapshot: Snapshot, index = 0, of = source): Promise<OpenDisk> {
  return of.openDisk(domain.config, snapshot, index, { runFolder: join(folder.path, 'run') })
}

async function publish(backupId: string): Promise<void> {
  const end = { outcome: 'published' as const, changeIdsInUse: [`holdfast-${backupId}`] }
  await source.endSnapshot(domain.config, backupId, end, {})
}

function abandon(backupId: string, of = source): Promise<void> {
  return of.endSnapshot(domain.config, backupId, { outcome: 'abandoned', changeIdsInUse: [] }, {})
}

function traces(): ReturnType<TestDomain['traces']> {
  return domain.traces(scratchFolderOf(libvirt))
}

describe('QEMU and libvirt that fail', () => {
  it('loses track when QEMU is killed between two backups, says so, and goes on with a full', async () => {
    await begin('b-0')
    await publish('b-0')
    // Twice: bitmaps that were never written, and ones that were and are broken now.
    for (const [parent, next] of [
      ['b-0', 'b-1'],
      ['b-1', 'b-2'],
    ] as const) {
      await domain.write(0, 0, randomBytes(65_536))
      await domain.crash()
      await domain.start()
      const lost = { state: 'lost', fullReason: 'bitmap_lost' }
      const parentIds = { vda: `holdfast-${parent}`, vdb: `holdfast-${parent}` }
      expect(await source.trackingSince(domain.config, parentIds, {})).toMatchObject({ vda: lost, vdb: lost })
      await expect(begin(next, parentIds)).rejects.toMatchObject(changed)
      const disk = await open(await begin(next))
      expect((await readOpenDisk(disk, null)).content.equals(await domain.content(0))).toBe(true)
      await disk.close()
      await publish(next)
      expect((await traces()).checkpoints).toEqual([`holdfast-${next}`])
      await domain.shutDown()
      await domain.start()
    }
    expect(await source.trackingSince(domain.config, { vda: 'holdfast-b-2' }, {})).toMatchObject({ vda: { state: 'tracked' } })
    const { stdout } = await runTool('qemu-img', ['info', '-U', domain.disks[0]!.path], { timeoutMs: 30_000 })
    expect(stdout).not.toMatch(/holdfast-b-[01]/)
  })

  it.each(['destroyed', 'killed'])('ends the disk when the domain is %s during a snapshot', async (how) => {
    const snapshot = await begin('b-0')
    const disk = await open(snapshot)
    if (how === 'killed') await domain.crash()
    else await domain.shutDown()
    await expect(readOpenDisk(disk, null)).rejects.toMatchObject({ code: expect.stringMatching(/^NBD_/) })
    await expect(disk.close()).rejects.toMatchObject(changed)
    await expect(open(snapshot, 1)).rejects.toMatchObject(changed)
    // It starts again and the old snapshot is not taken for a new one's.
    await domain.start()
    const again = await begin('b-0')
    expect(again.id).not.toBe(snapshot.id)
    await expect(open(snapshot)).rejects.toMatchObject(changed)
    await abandon('b-0')
    expect(await traces()).toEqual(clean)
  })

  it('reads on while libvirtd is dead, and ends when it is back', async () => {
    const before = await domain.content(0)
    const snapshot = await begin('b-0')
    const disk = await open(snapshot)
    const dead = domain.libvirt.restart()
    const content = readOpenDisk(disk, null)
    expect((await content).content.equals(before)).toBe(true)
    await dead
    await disk.close()
    expect(await begin('b-0')).toEqual(snapshot)
    await publish('b-0')
    expect(await traces()).toEqual({ ...clean, checkpoints: ['holdfast-b-0'] })
  })
})

describe('a backup that is interrupted', () => {
  it('is found again by another process, whole or in parts, and removed without a trace', async () => {
    const snapshot = await begin('b-0')
    const disk = await open(snapshot)
    const other = await createTestSource(libvirt)
    expect(await begin('b-0', {}, other)).toEqual(snapshot)
    const again = await open(snapshot, 0, other)
    expect((await readOpenDisk(again, null)).content.equals((await readOpenDisk(disk, null)).content)).toBe(true)
    await disk.close()
    await again.close()
    // The job is gone and its checkpoint is left: a dead attempt.
    await domain.ask('domjobabort')
    await expect.poll(async () => (await traces()).job).toBe(false)
    expect((await traces()).checkpoints).toEqual(['holdfast-b-0'])
    const next = await begin('b-0', {}, other)
    expect(next.id).not.toBe(snapshot.id)
    await abandon('b-0', other)
    await abandon('b-0')
    expect(await traces()).toEqual(clean)
  })

  it('takes another snapshot when it is to start from another point, and nothing from a point that is no more', async () => {
    await begin('b-0')
    await publish('b-0')
    const full = await begin('b-1')
    const incremental = await begin('b-1', { vda: 'holdfast-b-0', vdb: 'holdfast-b-0' })
    expect(incremental.id).not.toBe(full.id)
    expect(incremental.disks.map((disk) => disk.trackedSince)).toEqual(['holdfast-b-0', 'holdfast-b-0'])
    await abandon('b-1')
    expect((await traces()).checkpoints).toEqual(['holdfast-b-0'])
    await expect(begin('b-2', { vda: 'holdfast-unknown' })).rejects.toMatchObject(changed)
    expect(await traces()).toEqual({ ...clean, checkpoints: ['holdfast-b-0'] })
  })

  it('that was cancelled while it began leaves nothing', async () => {
    const cancel = new AbortController()
    const beginning = source.beginSnapshot(
      { backupId: 'b-0', config: domain.config, parentChangeIds: {} },
      { signal: cancel.signal },
    )
    await delay(300)
    cancel.abort(new Error('cancelled by the test'))
    await expect(beginning).rejects.toThrow('cancelled by the test')
    await abandon('b-0')
    expect(await traces()).toEqual(clean)
  })

  it('waits while somebody else backs the domain up, and leaves that alone', async () => {
    const file = join(folder.path, 'foreign.xml')
    const socket = join(folder.path, 'foreign.sock')
    await writeFile(file, `<domainbackup mode='pull'><server transport='unix' socket='${socket}'/></domainbackup>`)
    await domain.ask('backup-begin', file)
    await expect(begin('b-0')).rejects.toMatchObject({ code: 'SOURCE_BUSY', retryable: true })
    await abandon('b-0')
    expect((await traces()).job).toBe(true)
    await domain.ask('domjobabort')
    await expect.poll(async () => (await traces()).job).toBe(false)
    await begin('b-1')
    await expect(begin('b-2')).rejects.toMatchObject({ code: 'SOURCE_BUSY', message: expect.stringMatching(/b-1/) })
    await abandon('b-1')
    expect((await traces()).checkpoints).toEqual([])
  })
})

describe('a scratch folder', () => {
  it('that is too small is refused before anything begins, with both amounts', async () => {
    const small = await createTestSource(libvirt, smallFolder)
    await writeFile(join(smallFolder, 'filler'), Buffer.alloc(6 * MIB - 64 * 1024))
    await expect(begin('b-0', {}, small)).rejects.toMatchObject({
      code: 'INSUFFICIENT_STORAGE',
      details: { required_bytes: expect.any(Number), available_bytes: expect.any(Number) },
    })
    await runTool('rm', [join(smallFolder, 'filler')], { timeoutMs: 30_000 })
    expect(await domain.traces(smallFolder)).toEqual(clean)
  })

  it('that runs full ends the backup, and never fails a write of the guest', async () => {
    const small = await createTestSource(libvirt, smallFolder)
    const snapshot = await begin('b-0', {}, small)
    const disk = await open(snapshot, 0, small)
    // Somebody else takes the space.
    const { bavail, bsize } = await statfs(smallFolder)
    await writeFile(join(smallFolder, 'filler'), Buffer.alloc(bavail * bsize - 64 * 1024))
    const full = { code: 'INSUFFICIENT_STORAGE', retryable: false }
    await expect.poll(async () => (await domain.traces(smallFolder)).job, { timeout: 60_000 }).toBe(false)
    await domain.write(0, 0, randomBytes(MIB))
    await expect(disk.close()).rejects.toMatchObject(full)
    await expect(open(snapshot, 1, small)).rejects.toMatchObject(full)
    await abandon('b-0', small)
    expect(await domain.traces(smallFolder)).toEqual({ ...clean, files: ['filler'] })
    await runTool('rm', [join(smallFolder, 'filler')], { timeoutMs: 30_000 })
  })

  it('that is not there, or whose name is too long for a socket, is a fault of the connection', async () => {
    for (const scratch of ['missing', `${'long-'.repeat(20)}name`]) {
      const path = join(folder.path, scratch)
      const of = await createTestSource(libvirt, path)
      if (scratch === 'missing') await runTool('rmdir', [path], { timeoutMs: 30_000 })
      await expect(begin('b-0', {}, of)).rejects.toMatchObject({
        code: 'SOURCE_INVALID',
        message: expect.stringMatching(/scratch_folder/),
      })
    }
    expect(await traces()).toEqual(clean)
  })
})

describe('a guest agent', () => {
  it('that is configured and does not answer costs a warning, not the backup', async () => {
    await domain.destroy()
    domain = await createTestDomain(libvirt, { disks: [{ sizeBytes: MIB }], devicesXml: agentChannelXml })
    const paused = await begin('b-0')
    expect(paused).toMatchObject({
      consistency: 'crash',
      consistencyReason: expect.stringMatching(/paused/),
      warnings: [{ code: 'consistency_reduced' }],
    })
    await abandon('b-0')
    await domain.ask('resume')
    const startedAt = Date.now()
    const snapshot = await begin('b-0')
    expect(Date.now() - startedAt).toBeLessThan(30_000)
    expect(snapshot).toMatchObject({
      consistency: 'crash',
      consistencyReason: expect.stringMatching(/no agent is connected|did not answer/),
      warnings: [{ code: 'consistency_reduced', disk: null }],
    })
    expect(await begin('b-0')).toEqual(snapshot)
    await abandon('b-0')
    expect(await readdir(scratchFolderOf(libvirt))).toEqual([])
  })
})

describe('a libvirt that cannot be asked', () => {
  it('is unavailable, which passes; a VM that is not there is not', async () => {
    const { LibvirtSource } = await import('./source.ts')
    const config = { uri: `qemu+unix:///system?socket=${folder.path}/nobody.sock`, scratch_folder: scratchFolderOf(libvirt) }
    const away = new LibvirtSource(join(folder.path, 'run'), { id: 'source-2', config, credentials: null })
    await expect(away.describeVm(domain.config, {})).rejects.toMatchObject({ code: 'SOURCE_UNAVAILABLE', retryable: true })
    await expect(begin('b-0', {}, away)).rejects.toMatchObject({ code: 'SOURCE_UNAVAILABLE' })
    const unknown = { uuid: '00000000-0000-4000-8000-000000000000' }
    await expect(source.describeVm(unknown, {})).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND', retryable: false })
    await expect(source.describeVm({ uuid: '--all' }, {})).rejects.toMatchObject({ code: 'SOURCE_INVALID' })
    const info = await source.platform.probe({})
    expect(info).toMatchObject({ version: expect.stringMatching(/^QEMU \d.*, libvirt \d/), warnings: [] })
  })
})
