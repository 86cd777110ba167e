import { randomBytes } from 'node:crypto'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { failureOf } from '../../test/failure.ts'
import { createTestDomain, type TestDomain, type TestDomainOptions } from '../../test/libvirt-domain.ts'
import { readOpenDisk } from '../../test/open-disk-content.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../test/private-libvirt.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'
import { runTool } from '../../tools/run-tool.ts'
import { LibvirtSource } from './source.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')

const MIB = 1024 * 1024
let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let libvirt: PrivateLibvirt
let source: LibvirtSource

beforeAll(async () => {
  folder = await createTemporaryFolder()
  libvirt = await startPrivateLibvirt({ folder: join(folder.path, 'l'), keep: true })
  for (const name of ['s', 'r']) await mkdir(join(folder.path, name))
  source = sourceOf('source-1')
})

afterAll(async () => {
  await libvirt?.stop()
  await folder?.remove()
})

/** Each id is another connection to the same hypervisor, of this installation or of another one. */
function sourceOf(id: string): LibvirtSource {
  const config = { uri: libvirt.uri, scratch_folder: join(folder.path, 's') }
  return new LibvirtSource(join(folder.path, 'r'), { id, config, credentials: null })
}

async function domainOf(options: Partial<TestDomainOptions> = {}): Promise<TestDomain> {
  const domain = await createTestDomain(libvirt, { disks: [{ sizeBytes: 16 * MIB }], ...options })
  onTestFinished(() => domain.destroy())
  return domain
}

interface Backup {
  id: string
  content: Buffer
}

/** Of disk 0: the content that a restore would give. */
async function backUp(domain: TestDomain, id: string, parent: Backup | null, by = source) {
  const parentChangeIds: Record<string, string> = parent ? { vda: `holdfast-${parent.id}` } : {}
  const snapshot = await by.beginSnapshot({ backupId: id, config: domain.config, parentChangeIds }, {})
  const disk = await by.openDisk(domain.config, snapshot, 0, { runFolder: join(folder.path, 'r') })
  const read = await readOpenDisk(disk, parent?.content ?? null)
  await disk.close()
  const changeIdsInUse = [id, ...(parent ? [parent.id] : [])].map((one) => `holdfast-${one}`)
  await by.endSnapshot(domain.config, id, { outcome: 'published', changeIdsInUse }, {})
  return { id, snapshot, ...read }
}

async function contentOf(path: string): Promise<Buffer> {
  const copy = join(folder.path, 'content')
  await runTool('qemu-img', ['convert', '-U', '-O', 'raw', path, copy], { timeoutMs: 60_000 })
  return readFile(copy)
}

describe('an external snapshot since the parent', () => {
  it('leaves the record of changes in two images: the domain shut off is read whole, the running one asks libvirt', async () => {
    const domain = await domainOf()
    await domain.write(0, 0, randomBytes(MIB))
    const first = await backUp(domain, 'b-1', null)
    await domain.write(0, 4 * MIB, randomBytes(MIB))
    await domain.ask('snapshot-create-as', 'between', '--disk-only', '--atomic', '--no-metadata')
    await domain.write(0, 8 * MIB, randomBytes(MIB))
    const overlay = /source file='([^']+)'/.exec(await domain.ask('dumpxml'))?.[1] ?? ''
    onTestFinished(() => rm(overlay, { force: true }))
    expect(await source.trackingSince(domain.config, { vda: 'holdfast-b-1' }, {})).toMatchObject({
      vda: { state: 'tracked', changedBytes: 2 * MIB },
    })

    await domain.shutDown()
    expect(await source.trackingSince(domain.config, { vda: 'holdfast-b-1' }, {})).toMatchObject({ vda: { state: 'untracked' } })
    const second = await backUp(domain, 'b-2', first)
    expect(second.content.equals(await contentOf(overlay))).toBe(true)

    await domain.start()
    await domain.write(0, 12 * MIB, randomBytes(MIB))
    const third = await backUp(domain, 'b-3', second)
    expect(third.content.equals(await contentOf(overlay))).toBe(true)
    expect(third.readBytes).toBe(MIB)
  })
})

describe('two disks that were exchanged', () => {
  it.each(['running', 'off'] as const)('each carry a bitmap of the right name and are read whole (%s)', async (state) => {
    const domain = await domainOf({ disks: [{ sizeBytes: 4 * MIB }, { sizeBytes: 4 * MIB }] })
    for (const disk of [0, 1]) await domain.write(disk, 0, randomBytes(2 * MIB))
    const first = await backUp(domain, 'b-1', null)
    await domain.shutDown()
    const [vda, vdb] = domain.disks.map(({ path }) => path)
    domain.disks = domain.disks.map((disk, index) => ({ ...disk, path: (index === 0 ? vdb : vda) ?? '' }))
    await domain.define()
    if (state === 'running') await domain.start()
    expect(await source.trackingSince(domain.config, { vda: 'holdfast-b-1' }, {})).toMatchObject({ vda: { state: 'untracked' } })
    const second = await backUp(domain, 'b-2', first)
    expect(second.content.equals(await domain.content(0))).toBe(true)
    expect(second.snapshot.disks).toMatchObject([{ trackedSince: null, changeId: 'holdfast-b-2' }, {}])
  })
})

describe('a disk that nothing tracks any more', () => {
  it.each(['running', 'off'] as const)('is read whole although its parent had a change ID (%s)', async (state) => {
    const domain = await domainOf({ state, disks: [{ sizeBytes: 4 * MIB, format: 'raw' }] })
    const { snapshot } = await backUp(domain, 'b-2', { id: 'b-1', content: Buffer.alloc(4 * MIB) })
    expect(snapshot.disks).toMatchObject([{ changeId: null, trackedSince: null }])
  })

  it('is one whose bitmap somebody stopped', async () => {
    const domain = await domainOf({ state: 'off' })
    const first = await backUp(domain, 'b-1', null)
    const path = domain.disks[0]?.path ?? ''
    await runTool('qemu-img', ['bitmap', '--disable', path, 'holdfast-b-1'], { timeoutMs: 30_000 })
    await domain.start()
    await domain.write(0, 0, randomBytes(MIB))
    await domain.shutDown()
    const second = await backUp(domain, 'b-2', first)
    expect(second.content.equals(await domain.content(0))).toBe(true)
  })
})

/** Port 0x505 is the panic device's: mov dx,0x505; mov al,1; out dx,al; hlt; jmp back. */
const PANICKING_BOOT_SECTOR = Buffer.from('ba0505b001eef4ebfd', 'hex')

describe('a domain that crashed and is preserved', () => {
  it('has its QEMU, so it is backed up as a running one, and its disks are not replaced', async () => {
    const boot = Buffer.alloc(4 * MIB)
    PANICKING_BOOT_SECTOR.copy(boot)
    boot.set([0x55, 0xaa], 510)
    const path = join(folder.path, 'panic.raw')
    await writeFile(path, boot)
    const domain = await domainOf({
      state: 'off',
      disks: [{ sizeBytes: 4 * MIB, path, format: 'raw' }],
      devicesXml: "<panic model='isa'/>",
      extraXml: '<on_crash>preserve</on_crash>',
    })
    await domain.ask('start')
    await vi.waitFor(async () => expect(await domain.ask('domstate')).toContain('crashed'), { timeout: 60_000 })
    const backup = await backUp(domain, 'b-1', null)
    expect(backup.snapshot.id).toMatch(/^live:/)
    expect(backup.content.equals(boot)).toBe(true)
    const restore = {
      restoreId: 'restore-1',
      target: { mode: 'in-place' as const, vmName: domain.name, config: domain.config, diskFolder: null, connectNetwork: true },
      vmConfig: backup.snapshot.vmConfig,
      disks: [{ index: 0, key: 'vda', sizeBytes: 4 * MIB }],
    }
    expect(await failureOf(source.platform.restorer.plan(restore, {}))).toMatchObject({ code: 'VM_RUNNING' })
  })
})

describe('two connections to one hypervisor', () => {
  it.each(['running', 'off'] as const)('leave each other’s checkpoints alone (%s)', async (state) => {
    const domain = await domainOf({ state })
    const theirs = sourceOf('source-of-somebody-else')
    await backUp(domain, 'mine-1', null)
    await backUp(domain, 'theirs-1', null, theirs)
    await backUp(domain, 'mine-2', null)
    const { checkpoints } = await domain.traces(join(folder.path, 's'))
    expect(checkpoints.toSorted()).toEqual(['holdfast-mine-2', 'holdfast-theirs-1'])
    expect(await theirs.trackingSince(domain.config, { vda: 'holdfast-theirs-1' }, {})).toMatchObject({
      vda: { state: 'tracked' },
    })
  })
})
