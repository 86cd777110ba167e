import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { DomainWriter } from '../../test/domain-writer.ts'
import { createTestDomain, type TestDomain } from '../../test/libvirt-domain.ts'
import { createTestSource, scratchFolderOf } from '../../test/libvirt-source.ts'
import { readOpenDisk } from '../../test/open-disk-content.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../test/private-libvirt.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'
import { runTool } from '../../tools/run-tool.ts'
import type { Snapshot } from '../source.ts'
import type { LibvirtSource } from './source.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')

const MIB = 1024 * 1024

let libvirt: PrivateLibvirt
let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let source: LibvirtSource
let domain: TestDomain

beforeAll(async () => {
  folder = await createTemporaryFolder()
  libvirt = await startPrivateLibvirt({ keep: true, folder: folder.path })
})
afterAll(async () => {
  await libvirt.stop()
  await folder.remove()
})
beforeEach(async () => {
  source = await createTestSource(libvirt)
})

interface Copy {
  snapshot: Snapshot
  contents: Record<string, Buffer>
  changeIds: Record<string, string>
  readBytes: Record<string, number>
}

/** Snapshot, copy of what changed, end: as a backup does it. `during` happens between the snapshot and the copy. */
async function backUp(
  backupId: string,
  parent: Copy | null,
  options: { inUse?: string[]; during?: () => Promise<unknown> } = {},
): Promise<Copy> {
  const parentChangeIds = parent?.changeIds ?? {}
  const snapshot = await source.beginSnapshot({ backupId, config: domain.config, parentChangeIds }, {})
  await options.during?.()
  const copy: Copy = { snapshot, contents: {}, changeIds: {}, readBytes: {} }
  for (const { index, key, changeId, trackedSince } of snapshot.disks) {
    expect(trackedSince).toBe(parentChangeIds[key] ?? null)
    const disk = await source.openDisk(domain.config, snapshot, index, { runFolder: join(folder.path, 'run') })
    const { content, readBytes } = await readOpenDisk(disk, trackedSince === null ? null : (parent?.contents[key] ?? null))
    await disk.close()
    copy.contents[key] = content
    copy.readBytes[key] = readBytes
    if (changeId !== null) copy.changeIds[key] = changeId
  }
  const changeIdsInUse = [...(options.inUse ?? []), ...Object.values(copy.changeIds)]
  await source.endSnapshot(domain.config, backupId, { outcome: 'published', changeIdsInUse }, {})
  return copy
}

/** What a backup may build on, of this parent. */
function tracking(parent: Copy): ReturnType<LibvirtSource['trackingSince']> {
  return source.trackingSince(domain.config, parent.changeIds, {})
}

describe('backups of a running domain', () => {
  it('are of one instant each, all disks together, while the guest goes on writing', async () => {
    const sizesBytes = [4 * MIB, 2 * MIB]
    domain = await createTestDomain(libvirt, { disks: sizesBytes.map((sizeBytes) => ({ sizeBytes })) })
    const writer = new DomainWriter(domain, sizesBytes)
    await writer.write(12, { discarding: true })
    let parent: Copy | null = null
    const instants: number[] = []
    const readBytes: number[] = []
    for (const id of ['b-0', 'b-1', 'b-2', 'b-3']) {
      // Discards only while no backup runs: QEMU drops them while one does, and a guest must not mind.
      await writer.write(5, { discarding: true })
      writer.start()
      const from = writer.done
      let to = 0
      const copy: Copy = await backUp(id, parent, {
        during: async () => {
          to = writer.writes.length
          // Writes during the snapshot must not be seen.
          await expect.poll(() => writer.done, { timeout: 60_000 }).toBeGreaterThan(to + 2)
        },
      })
      instants.push(writer.instantOf([copy.contents['vda']!, copy.contents['vdb']!], from, to))
      readBytes.push(copy.readBytes['vda']!)
      parent = copy
      await writer.stop()
    }
    expect(instants).not.toContain(-1)
    expect(new Set(instants).size).toBe(4)
    expect(Math.max(...readBytes.slice(1))).toBeLessThan(4 * MIB)
    expect(await domain.traces(scratchFolderOf(libvirt))).toEqual({ job: false, checkpoints: ['holdfast-b-3'], files: [] })
    await domain.destroy()
  })

  it('count what changed, and go on past a foreign checkpoint, which stays', async () => {
    domain = await createTestDomain(libvirt, { disks: [{ sizeBytes: 4 * MIB }] })
    await domain.write(0, 0, randomBytes(MIB))
    const full = await backUp('b-0', null)
    await domain.write(0, MIB, randomBytes(65_536))
    await foreignCheckpoint('theirs')
    await domain.write(0, 2 * MIB, randomBytes(65_536))
    expect(await tracking(full)).toEqual({ vda: { state: 'tracked', changedBytes: 131_072 } })
    const next = await backUp('b-1', full)
    expect(next.readBytes).toEqual({ vda: 131_072 })
    expect(next.contents['vda']?.equals(await domain.content(0))).toBe(true)
    expect((await domain.traces(scratchFolderOf(libvirt))).checkpoints.toSorted()).toEqual(['holdfast-b-1', 'theirs'])
    // Somebody removes ours.
    await domain.ask('checkpoint-delete', 'holdfast-b-1')
    expect(await tracking(next)).toMatchObject({ vda: { state: 'lost', fullReason: 'checkpoint_missing' } })
    await expect(backUp('b-2', next)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
    expect(await domain.traces(scratchFolderOf(libvirt))).toEqual({ job: false, checkpoints: ['theirs'], files: [] })
    await domain.destroy()
  })

  it('of two repositories each start from their own', async () => {
    domain = await createTestDomain(libvirt, { disks: [{ sizeBytes: 2 * MIB }] })
    await domain.write(0, 0, randomBytes(65_536))
    const first = await backUp('a-0', null)
    await domain.write(0, 65_536, randomBytes(65_536))
    const second = await backUp('b-0', null, { inUse: ['holdfast-a-0'] })
    await domain.write(0, 131_072, randomBytes(65_536))
    const third = await backUp('a-1', first, { inUse: ['holdfast-b-0'] })
    expect(third.readBytes).toEqual({ vda: 131_072 })
    const fourth = await backUp('b-1', second, { inUse: ['holdfast-a-1'] })
    expect(fourth.readBytes).toEqual({ vda: 65_536 })
    for (const { contents } of [third, fourth]) expect(contents['vda']?.equals(await domain.content(0))).toBe(true)
    expect((await domain.traces(scratchFolderOf(libvirt))).checkpoints.toSorted()).toEqual(['holdfast-a-1', 'holdfast-b-1'])
    await domain.destroy()
  })

  it('read an added disk whole and the others from their parents; a removed one is no longer there', async () => {
    domain = await createTestDomain(libvirt, { disks: [{ sizeBytes: 2 * MIB }, { sizeBytes: MIB }] })
    await domain.write(0, 0, randomBytes(MIB))
    const full = await backUp('b-0', null)
    await domain.addDisk({ sizeBytes: MIB })
    await domain.write(2, 0, randomBytes(65_536))
    await domain.write(0, MIB, randomBytes(65_536))
    expect(await source.trackingSince(domain.config, { ...full.changeIds, vdc: 'holdfast-b-0' }, {})).toMatchObject({
      vda: { state: 'tracked' },
      vdb: { state: 'tracked', changedBytes: 0 },
      vdc: { state: 'lost', fullReason: 'checkpoint_missing' },
    })
    const added = await backUp('b-1', full)
    expect(added.readBytes).toEqual({ vda: 65_536, vdb: 0, vdc: MIB })
    expect(added.contents['vdc']?.equals(await domain.content(2))).toBe(true)

    await domain.shutDown()
    await domain.ask('detach-disk', 'vdb', '--config')
    await domain.start()
    expect(Object.keys(await tracking(added))).toEqual(['vda', 'vdc'])
    delete added.changeIds['vdb']
    const removed = await backUp('b-2', added)
    expect(removed.readBytes).toEqual({ vda: 0, vdc: 0 })
    expect(removed.contents['vda']?.equals(added.contents['vda']!)).toBe(true)
    await domain.destroy()
  })

  it('include what can be backed up, say why the rest is not, and keep what defines the domain again', async () => {
    const iso = join(folder.path, 'cd.iso')
    await writeFile(iso, randomBytes(MIB))
    domain = await createTestDomain(libvirt, {
      disks: [
        { sizeBytes: MIB },
        { sizeBytes: MIB, format: 'raw' },
        { sizeBytes: MIB, extraXml: '<readonly/>' },
        { sizeBytes: MIB, format: 'raw', extraXml: '<shareable/>' },
        { sizeBytes: MIB },
      ],
      devicesXml: `<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='${iso}'/><target dev='hda' bus='ide'/><readonly/></disk><disk type='file' device='cdrom'><target dev='hdb' bus='ide'/><readonly/></disk>`,
    })
    const config = { ...domain.config, excluded_disks: ['vde'] }
    await domain.write(1, 0, randomBytes(65_536))
    const described = await source.describeVm(config, {})
    expect(described).toMatchObject({ powerState: 'on', cpuCount: 2, memoryMb: 64 })
    expect(described.disks.map(({ key, format }) => [key, format])).toEqual([
      ['vda', 'qcow2'],
      ['vdb', 'raw'],
    ])
    expect(described.warnings.map(({ code, disk }) => [disk, code])).toEqual([
      ['vdc', 'disk_read_only'],
      ['vdd', 'disk_unsupported'],
      ['vde', 'disk_excluded'],
      ['hda', 'disk_read_only'],
      ['hdb', 'disk_read_only'],
    ])
    const snapshot = await source.beginSnapshot({ backupId: 'b-0', config, parentChangeIds: {} }, {})
    expect(snapshot.disks.map(({ key, changeId }) => [key, changeId])).toEqual([
      ['vda', 'holdfast-b-0'],
      ['vdb', null],
    ])
    expect(snapshot).toMatchObject({ consistency: 'crash', warnings: [], vmConfig: { uuid: domain.uuid, name: domain.name } })
    const raw = await source.openDisk(config, snapshot, 1, { runFolder: join(folder.path, 'run') })
    expect((await readOpenDisk(raw, null)).content.equals(await domain.content(1))).toBe(true)
    await raw.close()
    await source.endSnapshot(config, 'b-0', { outcome: 'published', changeIdsInUse: ['holdfast-b-0'] }, {})
    expect(await source.trackingSince(config, { vda: 'holdfast-b-0', vdb: null }, {})).toMatchObject({
      vda: { state: 'tracked' },
      vdb: { state: 'untracked' },
    })
    // The XML defines it again.
    await domain.destroy()
    const file = join(folder.path, 'again.xml')
    await writeFile(file, snapshot.vmConfig['domain_xml'] as string)
    await libvirt.ask('define', file)
    expect(await domain.ask('domname')).toContain(domain.name)
    await domain.destroy()
  })

  it('of a domain with nothing to back up are refused', async () => {
    domain = await createTestDomain(libvirt, { disks: [{ sizeBytes: MIB, extraXml: '<readonly/>' }] })
    const request = { backupId: 'b-0', config: domain.config, parentChangeIds: {} }
    await expect(source.beginSnapshot(request, {})).rejects.toMatchObject({
      code: 'SOURCE_INVALID',
      message: expect.stringMatching(/no disk to back up.*vda/),
    })
    await domain.destroy()
  })

  it('of a transient domain, and of one whose image is too old for bitmaps, read everything and leave nothing', async () => {
    for (const state of ['transient', 'running'] as const) {
      const path = join(folder.path, `${state}.qcow2`)
      if (state === 'running')
        await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', path, '1M'], { timeoutMs: 30_000 })
      domain = await createTestDomain(libvirt, { state, disks: [{ sizeBytes: MIB, path }] })
      await domain.write(0, 0, randomBytes(65_536))
      const copy = await backUp('b-0', null)
      expect(copy.changeIds).toEqual({})
      expect(copy.contents['vda']?.equals(await domain.content(0))).toBe(true)
      expect(await domain.traces(scratchFolderOf(libvirt))).toEqual({ job: false, checkpoints: [], files: [] })
      expect(await source.trackingSince(domain.config, { vda: null }, {})).toMatchObject({ vda: { state: 'untracked' } })
      await domain.destroy()
    }
  })

  it.each([
    ['with spaces & "double" \'single\' quotes', 'a disk "with" \'quotes\' & <brackets>.qcow2'],
    ['--all', '-disk; touch pwned $(touch pwned) `touch pwned`.qcow2'],
    ['Ünïcödé 虚拟机', '磁盘 %s,file=x.qcow2'],
  ])('work for a domain called %s', async (name, file) => {
    domain = await createTestDomain(libvirt, { name, disks: [{ sizeBytes: MIB, path: join(folder.path, file) }] })
    await domain.write(0, 0, randomBytes(65_536))
    const full = await backUp('b-0', null)
    await domain.write(0, 131_072, randomBytes(65_536))
    const next = await backUp('b-1', full)
    expect(next.contents['vda']?.equals(await domain.content(0))).toBe(true)
    expect(next.readBytes).toEqual({ vda: 65_536 })
    expect(next.snapshot.vmConfig).toMatchObject({ name, disks: [{ path: join(folder.path, file) }] })
    const found = await source.platform.discoverVms({})
    expect(found.find((vm) => vm.externalId === domain.uuid)).toMatchObject({ name, description: { disks: [{ key: 'vda' }] } })
    await domain.destroy()
  })
})

async function foreignCheckpoint(name: string): Promise<void> {
  const file = join(folder.path, 'checkpoint.xml')
  await writeFile(file, `<domaincheckpoint><name>${name}</name></domaincheckpoint>`)
  await domain.ask('checkpoint-create', file)
}
