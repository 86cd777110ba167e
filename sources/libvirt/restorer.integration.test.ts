import { chmod, chown, link, lstat, mkdir, readdir, readFile, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { HoldfastError, JsonObject } from '../../domain/errors.ts'
import { failureOf } from '../../test/failure.ts'
import { createTestDomain, type TestDomain, type TestDomainOptions } from '../../test/libvirt-domain.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../test/private-libvirt.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'
import { runTool } from '../../tools/run-tool.ts'
import type { PlannedDisk, VmRestore, VmRestoreDisk } from '../source.ts'
import { LibvirtConnection } from './connection.ts'
import { createHost } from './create-host.ts'
import { children, child, parseXml } from './domain-xml.ts'
import { LibvirtRestorer } from './restorer.ts'

requireTool('libvirtd')
requireTool('virsh')
requireTool('qemu-system-x86_64')

const MIB = 1024 * 1024

let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let libvirt: PrivateLibvirt
let connection: LibvirtConnection
let restorer: LibvirtRestorer
let count = 0

beforeAll(async () => {
  folder = await createTemporaryFolder()
  libvirt = await startPrivateLibvirt({ keep: true, folder: folder.path })
  connection = connectionTo(libvirt.uri)
  restorer = restorerOf(connection)
})

afterAll(async () => {
  await libvirt?.stop()
  await folder?.remove()
})

function connectionTo(uri: string): LibvirtConnection {
  return new LibvirtConnection({ id: 'source-test', config: { uri }, credentials: null }, runFolder())
}

const runFolder = (): string => join(folder.path, 'runs')

function restorerOf(of: LibvirtConnection): LibvirtRestorer {
  return new LibvirtRestorer({ connection: of, host: createHost(of, runFolder()), runFolder: runFolder() })
}

/** A folder of a test's own. */
async function place(name = 'restored'): Promise<string> {
  const path = join(folder.path, `${name}-${(count += 1)}`)
  await mkdir(path)
  return path
}

async function vmConfigOf(domain: TestDomain): Promise<JsonObject> {
  return { uuid: domain.uuid, name: domain.name, domain_xml: await domain.ask('dumpxml', '--inactive') }
}

function disksOf(domain: TestDomain, sizeBytes = 4 * MIB): VmRestoreDisk[] {
  return domain.disks.map(({ target: key }, index) => ({ index, key, sizeBytes }))
}

async function asNew(domain: TestDomain, vmName: string, diskFolder: string, connectNetwork = false) {
  const restore: VmRestore = {
    restoreId: `restore-new-${(count += 1)}`,
    target: { mode: 'new', vmName, config: null, diskFolder, connectNetwork },
    vmConfig: await vmConfigOf(domain),
  }
  return { ...restore, disks: disksOf(domain) }
}

async function inPlace(domain: TestDomain) {
  const restore: VmRestore = {
    restoreId: `restore-over-${(count += 1)}`,
    target: { mode: 'in-place', vmName: domain.name, config: domain.config, diskFolder: null, connectNetwork: true },
    vmConfig: await vmConfigOf(domain),
  }
  return { ...restore, disks: disksOf(domain) }
}

const contentOf = (index: number): Buffer => Buffer.alloc(4 * MIB, 0x70 + index)

/** As `restoreDisk` would. */
async function write(disks: readonly PlannedDisk[]): Promise<void> {
  for (const { index, writePath, format } of disks) {
    const raw = `${writePath}.raw-content`
    await writeFile(raw, contentOf(index))
    await runTool('qemu-img', ['convert', '-f', 'raw', '-O', format, raw, writePath], { timeoutMs: 30_000 })
    await rm(raw)
  }
}

async function holds(path: string, format: string, expected: Buffer): Promise<void> {
  const raw = `${path}.expected`
  await writeFile(raw, expected)
  // Exits with 1 when they differ.
  await runTool('qemu-img', ['compare', '-U', '-f', format, '-F', 'raw', path, raw], { timeoutMs: 30_000 })
  await rm(raw)
}

const names = async (): Promise<string[]> => (await libvirt.ask('list', '--all', '--name')).split('\n').filter(Boolean)

/** What a refusal is: code, whether it may pass, words. */
async function refusal(work: Promise<unknown>): Promise<[HoldfastError['code'], string]> {
  const { code, message, retryable } = await failureOf(work)
  expect(retryable, message).toBe(code === 'SOURCE_BUSY')
  return [code, message]
}

const cards = `<interface type='user'><mac address='52:54:00:00:00:01'/></interface><interface type='user'><mac address='52:54:00:00:00:02'/></interface>`
const drive = `<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/dev/null'/><target dev='hda' bus='ide'/><readonly/></disk>`
const domainOf = (options: Partial<TestDomainOptions> = {}) =>
  createTestDomain(libvirt, { disks: [{ sizeBytes: 4 * MIB }, { sizeBytes: 4 * MIB, format: 'raw' }], state: 'off', ...options })

describe('as a new domain', () => {
  test('it exists beside the original, disconnected, with the restored disks, and starts', async () => {
    const domain = await domainOf({ devicesXml: cards + drive })
    const into = await place()
    const restore = await asNew(domain, 'Web <copy> & "Söhne" \'x\'', into)
    const disks = await restorer.plan(restore, {})
    expect(await readdir(into)).toEqual([])
    expect(disks.map(({ path, format }) => [path, format])).toEqual([
      [join(into, 'web-copy-so-hne-x-vda.qcow2'), 'qcow2'],
      [join(into, 'web-copy-so-hne-x-vdb.qcow2'), 'qcow2'],
    ])
    await write(disks)
    const made = await restorer.complete({ ...restore, disks }, {})
    expect(made.warnings).toEqual([expect.stringContaining('hda')])
    expect(await readdir(into)).toEqual(['web-copy-so-hne-x-vda.qcow2', 'web-copy-so-hne-x-vdb.qcow2'])
    for (const { path, index } of disks) await holds(path, 'qcow2', contentOf(index))

    expect(await names()).toEqual(expect.arrayContaining([domain.name, restore.target.vmName]))
    const root = parseXml(await libvirt.ask('dumpxml', made.externalId)).documentElement!
    expect(made.externalId).not.toBe(domain.uuid)
    expect(child(root, 'name')!.textContent).toBe(restore.target.vmName)
    const network = children(child(root, 'devices'), 'interface')
    const macs = network.map((one) => child(one, 'mac')!.getAttribute('address'))
    expect(new Set([...macs, '52:54:00:00:00:01', '52:54:00:00:00:02']).size).toBe(4)
    expect(network.map((one) => child(one, 'link')?.getAttribute('state'))).toEqual(['down', 'down'])

    // Again, as after a crash before the answer was kept.
    expect(await restorer.complete({ ...restore, disks }, {})).toEqual(made)
    expect(await restorer.discard({ ...restore, disks }, {})).toBe('complete')
    await restorer.start(made.externalId, {})
    expect(await libvirt.ask('domstate', made.externalId)).toContain('running')
    await restorer.start(made.externalId, {})
    await libvirt.ask('destroy', made.externalId)
  })

  test('name taken: VM_EXISTS, before anything is written and again when somebody was faster', async () => {
    const domain = await domainOf()
    const into = await place()
    expect(await refusal(restorer.plan(await asNew(domain, domain.name, into), {}))).toEqual(['VM_EXISTS', expect.any(String)])
    const restore = await asNew(domain, 'raced', into)
    const disks = await restorer.plan(restore, {})
    await write(disks)
    await domainOf({ name: 'raced' })
    expect(await refusal(restorer.complete({ ...restore, disks }, {}))).toEqual(['VM_EXISTS', expect.any(String)])
    expect(await restorer.discard({ ...restore, disks }, {})).toBe('discarded')
    expect(await readdir(into)).toEqual([])
    expect((await names()).filter((name) => name === 'raced')).toHaveLength(1)
  })

  test('never over a file, and what is there stays when the restore is taken back', async () => {
    const domain = await domainOf()
    const into = await place()
    const restore = await asNew(domain, 'second', into)
    const disks = await restorer.plan(restore, {})
    await write(disks)
    await writeFile(disks[1]!.path, 'precious')
    expect(await refusal(restorer.plan(restore, {}))).toEqual(['RESTORE_TARGET_EXISTS', expect.any(String)])
    expect(await refusal(restorer.complete({ ...restore, disks }, {}))).toEqual(['RESTORE_TARGET_EXISTS', expect.any(String)])
    expect(await restorer.discard({ ...restore, disks }, {})).toBe('discarded')
    expect(await restorer.discard({ ...restore, disks }, {})).toBe('discarded')
    expect(await readdir(into)).toEqual(['second-vdb.qcow2'])
    expect(await readFile(disks[1]!.path, 'utf8')).toBe('precious')
    expect(await names()).not.toContain('second')
  })

  test('a restore that is taken back after its domain was defined leaves no domain and no file', async () => {
    const domain = await domainOf()
    const into = await place()
    const restore = await asNew(domain, 'half', into)
    const disks = await restorer.plan(restore, {})
    await write(disks)
    await restorer.complete({ ...restore, disks }, {})
    // As if the crash had come before the first names were removed.
    await link(disks[0]!.path, disks[0]!.writePath)
    await link(disks[1]!.path, disks[1]!.writePath)
    expect(await restorer.discard({ ...restore, disks }, {})).toBe('discarded')
    expect([await readdir(into), (await names()).includes('half')]).toEqual([[], false])
  })

  test('some disks only; a disk that the definition does not have; no definition; no folder', async () => {
    const domain = await domainOf()
    const into = await place()
    const restore = await asNew(domain, 'partial', into)
    const disks = await restorer.plan({ ...restore, disks: restore.disks.slice(1) }, {})
    await write(disks)
    const { externalId, warnings } = await restorer.complete({ ...restore, disks }, {})
    expect(warnings).toEqual([expect.stringContaining('vda')])
    expect(await libvirt.ask('domblklist', externalId)).not.toContain('vda')
    const other = { ...restore, target: { ...restore.target, vmName: 'other' } }
    const strange = [{ index: 0, key: 'sdz', sizeBytes: MIB }]
    expect(await refusal(restorer.plan({ ...other, disks: strange }, {}))).toEqual([
      'RESTORE_TARGET_INVALID',
      expect.stringMatching(/sdz/),
    ])
    const escaping = [{ index: 0, key: '../x', sizeBytes: MIB }]
    expect(await refusal(restorer.plan({ ...other, disks: escaping }, {}))).toEqual([
      'RESTORE_TARGET_INVALID',
      expect.any(String),
    ])
    expect(await refusal(restorer.plan({ ...other, vmConfig: { disks: [] } }, {}))).toEqual([
      'RESTORE_TARGET_INVALID',
      expect.stringMatching(/definition/),
    ])
    const nowhere = { ...other, target: { ...other.target, diskFolder: join(into, 'missing') } }
    expect(await refusal(restorer.plan(nowhere, {}))).toEqual(['RESTORE_TARGET_INVALID', expect.stringMatching(/no folder/)])
  })

  test('a definition that libvirt refuses: RESTORE_TARGET_INVALID with its words, and nothing stays', async () => {
    const domain = await domainOf()
    const into = await place()
    const restore = await asNew(domain, 'odd', into)
    const xml = (await domain.ask('dumpxml', '--inactive')).replace(/machine='[^']*'/, "machine='no-such-machine'")
    const odd = { ...restore, vmConfig: { domain_xml: xml } }
    const disks = await restorer.plan(odd, {})
    await write(disks)
    expect(await refusal(restorer.complete({ ...odd, disks }, {}))).toEqual([
      'RESTORE_TARGET_INVALID',
      expect.stringMatching(/no-such-machine/),
    ])
    expect(await restorer.discard({ ...odd, disks }, {})).toBe('discarded')
    expect(await readdir(into)).toEqual([])
  })

  test('on another machine: RESTORE_TARGET_INVALID', async () => {
    const far = connectionTo('qemu+ssh://host/system')
    const restore = await asNew(await domainOf(), 'far', await place())
    expect(await refusal(restorerOf(far).plan(restore, {}))).toEqual(['RESTORE_TARGET_INVALID', expect.stringMatching(/files/)])
  })
})

describe('over the original', () => {
  /** libvirt "goes away" at the n-th look at the domain's state, as in a crash. */
  class Dying extends LibvirtConnection {
    looks = 0
    dieAt = Number.POSITIVE_INFINITY

    override async ask(command: readonly string[], options = {}): Promise<string> {
      if (command[0] === 'domstate' && (this.looks += 1) >= this.dieAt) throw new Error('killed')
      return super.ask(command, options)
    }
  }

  async function checkpoint(domain: TestDomain, name: string): Promise<void> {
    const file = join(domain.folder, 'checkpoint.xml')
    // Raw disks keep no bitmaps.
    await writeFile(
      file,
      `<domaincheckpoint><name>${name}</name><disks><disk name='vda' checkpoint='bitmap'/><disk name='vdb' checkpoint='no'/></disks></domaincheckpoint>`,
    )
    await domain.ask('checkpoint-create', file)
  }

  const checkpointsOf = async (domain: TestDomain) => (await domain.ask('checkpoint-list', '--name')).trim()
  const filesOf = (domain: TestDomain) => readdir(domain.folder)

  test("the disks become the backup's, with owner and mode, and no checkpoint is left", async () => {
    const domain = await domainOf({ state: 'running' })
    await checkpoint(domain, 'another-tool')
    await checkpoint(domain, 'holdfast-backup-a')
    await checkpoint(domain, 'holdfast-backup-b')
    await domain.shutDown()
    const before = await filesOf(domain)
    await chmod(domain.disks[0]!.path, 0o640)
    await chown(domain.disks[0]!.path, 1234, 4321)
    const restore = await inPlace(domain)
    const disks = await restorer.plan(restore, {})
    expect(disks.map(({ path, format }) => [path, format])).toEqual(domain.disks.map(({ path, format }) => [path, format]))
    await write(disks)
    const { externalId, warnings } = await restorer.complete({ ...restore, disks }, {})
    expect(externalId).toBe(domain.uuid)
    expect(warnings).toEqual([expect.stringContaining('another-tool')])
    for (const { path, format, index } of disks) await holds(path, format, contentOf(index))
    const { mode, uid, gid } = await lstat(domain.disks[0]!.path)
    expect([mode & 0o7777, uid, gid]).toEqual([0o640, 1234, 4321])
    expect(await checkpointsOf(domain)).toBe('')
    expect(await filesOf(domain)).toEqual(before)
    await domain.start()
    expect((await domain.content(0)).equals(contentOf(0))).toBe(true)
    // A new record of changes can begin.
    await checkpoint(domain, 'holdfast-backup-c')
    expect(await checkpointsOf(domain)).toBe('holdfast-backup-c')
    await domain.destroy()
  })

  test('killed between the two swaps: repeated, it finishes; it cannot be taken back any more', async () => {
    const domain = await domainOf()
    const restore = await inPlace(domain)
    const disks = await restorer.plan(restore, {})
    await write(disks)
    const original = await domain.content(1)
    const dying = new Dying({ id: 'dying', config: { uri: libvirt.uri }, credentials: null }, runFolder())
    // Once before all, then before each disk.
    dying.dieAt = 3
    await expect(restorerOf(dying).complete({ ...restore, disks }, {})).rejects.toThrow('killed')
    await holds(disks[0]!.path, 'qcow2', contentOf(0))
    await holds(disks[1]!.path, 'raw', original)
    expect(await restorer.discard({ ...restore, disks }, {})).toBe('begun')
    await domain.start()
    expect(await refusal(restorer.complete({ ...restore, disks }, {}))).toEqual([
      'SOURCE_BUSY',
      expect.stringMatching(/Shut it down/),
    ])
    await domain.shutDown()
    await restorer.complete({ ...restore, disks }, {})
    for (const { path, format, index } of disks) await holds(path, format, contentOf(index))
    await restorer.complete({ ...restore, disks }, {})
    expect((await filesOf(domain)).filter((name) => name.includes('holdfast'))).toEqual([])
  })

  test('what keeps the second disk from being swapped may be lasting elsewhere; here it is tried again', async () => {
    const domain = await domainOf()
    const restore = await inPlace(domain)
    const disks = await restorer.plan(restore, {})
    await write(disks)
    const { path } = disks[1]!
    await rename(path, `${path}.aside`)
    await mkdir(path)
    expect(await failureOf(restorer.complete({ ...restore, disks }, {}))).toMatchObject({
      code: 'RESTORE_TARGET_INVALID',
      retryable: true,
      message: expect.stringContaining('do not start it'),
    })
    await rm(path, { recursive: true })
    await restorer.complete({ ...restore, disks }, {})
    for (const { path: place, format, index } of disks) await holds(place, format, contentOf(index))
    await rm(`${path}.aside`)
  })

  test('running: VM_RUNNING, also when it was started meanwhile, and nothing is swapped', async () => {
    const domain = await domainOf({ state: 'running' })
    const restore = await inPlace(domain)
    expect(await refusal(restorer.plan(restore, {}))).toEqual(['VM_RUNNING', expect.any(String)])
    await domain.shutDown()
    const disks = await restorer.plan(restore, {})
    await write(disks)
    const before = await Promise.all([domain.content(0), domain.content(1)])
    await domain.start()
    await checkpoint(domain, 'holdfast-backup-x')
    expect(await refusal(restorer.complete({ ...restore, disks }, {}))).toEqual(['VM_RUNNING', expect.any(String)])
    expect(await checkpointsOf(domain)).toBe('holdfast-backup-x')
    expect(await restorer.discard({ ...restore, disks }, {})).toBe('discarded')
    for (const [index, content] of before.entries()) expect((await domain.content(index)).equals(content)).toBe(true)
    expect((await filesOf(domain)).filter((name) => name.includes('holdfast'))).toEqual([])
    await domain.destroy()
  })

  test('a disk behind a link: the link stays, what it leads to is replaced', async () => {
    const elsewhere = await place('storage')
    const path = join(await place('links'), 'disk <&> "ü" .qcow2')
    const domain = await domainOf({ disks: [{ sizeBytes: 4 * MIB, path }] })
    await rename(path, join(elsewhere, 'real.qcow2'))
    await symlink(join(elsewhere, 'real.qcow2'), path)
    const restore = await inPlace(domain)
    const disks = await restorer.plan(restore, {})
    expect(disks[0]!.path).toBe(join(elsewhere, 'real.qcow2'))
    await write(disks)
    await restorer.complete({ ...restore, disks }, {})
    expect(await readlink(path)).toBe(join(elsewhere, 'real.qcow2'))
    await holds(path, 'qcow2', contentOf(0))
    expect(await readdir(elsewhere)).toEqual(['real.qcow2'])
  })

  test('a disk whose file is gone is restored, too', async () => {
    const domain = await domainOf({ disks: [{ sizeBytes: 4 * MIB }] })
    await rm(domain.disks[0]!.path)
    const restore = await inPlace(domain)
    const disks = await restorer.plan(restore, {})
    await write(disks)
    expect((await restorer.complete({ ...restore, disks }, {})).warnings).toEqual([])
    await holds(domain.disks[0]!.path, 'qcow2', contentOf(0))
  })

  test('somebody removed what was written: no half restore', async () => {
    const domain = await domainOf()
    const before = await domain.content(0)
    const restore = await inPlace(domain)
    const disks = await restorer.plan(restore, {})
    await write(disks)
    await rm(disks[1]!.writePath)
    expect(await refusal(restorer.complete({ ...restore, disks }, {}))).toEqual(['DISK_WRITE_FAILED', expect.any(String)])
    expect((await domain.content(0)).equals(before)).toBe(true)
  })

  test('the original is gone: SOURCE_NOT_FOUND with advice', async () => {
    const domain = await domainOf()
    const restore = await inPlace(domain)
    await domain.ask('undefine')
    expect(await refusal(restorer.plan(restore, {}))).toEqual(['SOURCE_NOT_FOUND', expect.stringMatching(/new VM/)])
  })

  describe('refused with RESTORE_TARGET_INVALID, and nothing is left', () => {
    async function reasonAgainst(domain: TestDomain): Promise<string> {
      const before = await filesOf(domain)
      const error = await failureOf(restorer.plan(await inPlace(domain), {}))
      expect(error.code).toBe('RESTORE_TARGET_INVALID')
      expect(await filesOf(domain)).toEqual(before)
      return error.message
    }

    test('snapshots', async () => {
      const domain = await domainOf({ disks: [{ sizeBytes: 4 * MIB }] })
      await domain.ask('snapshot-create-as', '--name', 'before the upgrade')
      expect(await reasonAgainst(domain)).toMatch(/before the upgrade/)
    })

    test('internal snapshots that libvirt does not know', async () => {
      const domain = await domainOf({ disks: [{ sizeBytes: 4 * MIB }] })
      await runTool('qemu-img', ['snapshot', '-c', 'secret', domain.disks[0]!.path], { timeoutMs: 30_000 })
      expect(await reasonAgainst(domain)).toMatch(/internal snapshots/)
    })

    test('saved memory', async () => {
      const domain = await domainOf({ state: 'running', disks: [{ sizeBytes: 4 * MIB }] })
      await domain.ask('managedsave')
      expect(await reasonAgainst(domain)).toMatch(/saved memory/)
    })

    test('a disk that the VM no longer has', async () => {
      const domain = await domainOf()
      const restore = await inPlace(domain)
      await domain.ask('detach-disk', 'vdb', '--config')
      expect(await refusal(restorer.plan(restore, {}))).toEqual([
        'RESTORE_TARGET_INVALID',
        expect.stringMatching(/vdb.*no such disk/),
      ])
    })

    test('a backing file that the definition names', async () => {
      const domain = await domainOf({
        disks: [
          {
            sizeBytes: 4 * MIB,
            extraXml: `<backingStore type='file'><format type='raw'/><source file='/x/base'/></backingStore>`,
          },
        ],
      })
      expect(await reasonAgainst(domain)).toMatch(/backingStore/)
    })

    test('another domain builds on the disk', async () => {
      const domain = await domainOf({ disks: [{ sizeBytes: 4 * MIB }] })
      const clone = join(await place('clone'), 'clone.qcow2')
      await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', domain.disks[0]!.path, '-F', 'qcow2', clone], {
        timeoutMs: 30_000,
      })
      const other = await domainOf({ disks: [{ sizeBytes: 4 * MIB, path: clone }] })
      expect(await reasonAgainst(domain)).toContain(other.name)
    })

    test('a block device', async () => {
      const domain = await domainOf({ disks: [{ sizeBytes: 4 * MIB }] })
      const xml = domain
        .xml()
        .replace(/<disk type='file'/, "<disk type='block'")
        .replace(/<source file='[^']*'/, "<source dev='/dev/null'")
      const file = join(domain.folder, 'block.xml')
      await writeFile(file, xml)
      await libvirt.ask('define', file)
      expect(await reasonAgainst(domain)).toMatch(/block device/)
    })
  })
})
