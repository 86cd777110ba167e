import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { failureOf } from '../../test/failure.ts'
import { createTestDomain, type TestDomain } from '../../test/libvirt-domain.ts'
import { readOpenDisk } from '../../test/open-disk-content.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../test/private-libvirt.ts'
import { freePort, makeKey, startPrivateSshd, type PrivateSshd } from '../../test/private-sshd.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'
import { runTool } from '../../tools/run-tool.ts'
import type { SourceConnection } from '../registry.ts'
import { localHost } from './host-local.ts'
import { sshHost } from './host-ssh.ts'
import type { HypervisorHost } from './host.ts'
import { checkpointName } from './names.ts'
import { LibvirtSource } from './source.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')
requireTool('sshd')

const MIB = 1024 * 1024
let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let libvirt: PrivateLibvirt
let sshd: PrivateSshd
let scratchFolder: string
let runFolder: string

beforeAll(async () => {
  folder = await createTemporaryFolder()
  scratchFolder = join(folder.path, 's')
  runFolder = join(folder.path, 'r')
  for (const path of [scratchFolder, runFolder]) await mkdir(path)
  ;[libvirt, sshd] = await Promise.all([
    startPrivateLibvirt({ folder: join(folder.path, 'l'), keep: true }),
    startPrivateSshd(join(folder.path, 'd')),
  ])
})

afterAll(async () => {
  await sshd?.stop()
  await libvirt?.stop()
  await folder?.remove()
})

function connectionTo({ port, user, knownHosts, privateKey }: PrivateSshd): SourceConnection {
  const socket = encodeURIComponent(`${libvirt.folder}/run/libvirt-sock`)
  return {
    id: 'kvm-1',
    config: {
      uri: `qemu+ssh://${user}@127.0.0.1:${port}/system?socket=${socket}`,
      scratch_folder: scratchFolder,
      ssh_known_hosts: knownHosts,
    },
    credentials: { ssh_private_key: privateKey },
  }
}

async function expectNothingLeft(): Promise<void> {
  expect(await readdir(scratchFolder)).toEqual([])
  // The tunnel to libvirt is kept for a few seconds.
  await vi.waitFor(async () => expect(await readdir(runFolder)).toEqual([]), { timeout: 60_000, interval: 100 })
}

/** Command lines of programs that name `word`. */
async function processesNaming(word: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const commands = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  return commands.filter((command) => command.includes(word))
}

describe('files of the host', () => {
  const both: [string, () => HypervisorHost][] = [
    ['here', () => localHost()],
    ['behind SSH', () => sshHost(sshd.target, { runFolder, scratchFolder })],
  ]

  it.each(both)('are found, told apart and removed: %s', async (_, hostOf) => {
    const host = hostOf()
    const place = join(folder.path, `files $(id) 'x' ${randomBytes(3).toString('hex')}`)
    await mkdir(place)
    const names = ['holdfast-a b', 'holdfast-$(touch x)', 'holdfast-ü', "holdfast-'", 'other', '-holdfast']
    for (const name of names) await writeFile(join(place, name), name)
    await symlink('/nonexistent', join(place, 'holdfast-dangling'))
    const found = await host.listFiles(place, 'holdfast-')
    expect(found.toSorted()).toEqual(['holdfast-dangling', ...names.slice(0, 4)].toSorted())
    expect(await host.listFiles(place, 'none')).toEqual([])
    expect(await host.listFiles(join(place, 'nowhere'), '')).toEqual([])

    const file = join(place, 'holdfast-a b')
    const before = await host.fingerprint(file)
    expect(await host.fingerprint(file)).toBe(before)
    await writeFile(file, 'other content')
    expect(await host.fingerprint(file)).not.toBe(before)
    await host.removeFile(file)
    await host.removeFile(file)
    expect(await host.fingerprint(file)).toBeNull()
    expect((await readdir(place)).length).toBe(names.length)
  })

  it.each(both)(
    'say of a block device whether it was written to, also through the node that libvirt makes for QEMU: %s',
    async (_, hostOf) => {
      const image = join(folder.path, `block-${randomBytes(3).toString('hex')}`)
      await writeFile(image, Buffer.alloc(MIB))
      const device = (await runTool('losetup', ['--find', '--show', image], { timeoutMs: 30_000 })).stdout.trim()
      onTestFinished(async () => void (await runTool('losetup', ['--detach', device], { timeoutMs: 30_000 })))
      const node = `${image}-node`
      await runTool('cp', ['-R', device, node], { timeoutMs: 30_000 })
      const host = hostOf()
      const before = await host.fingerprint(device)
      expect(await host.fingerprint(device)).toBe(before)
      await runTool('dd', ['if=/dev/urandom', `of=${node}`, 'bs=4096', 'count=1', 'conv=notrunc'], { timeoutMs: 30_000 })
      const written = await host.fingerprint(device)
      expect(written).not.toBe(before)
      await runTool('dd', ['if=/dev/urandom', `of=${node}`, 'bs=4096', 'count=1', 'conv=notrunc'], { timeoutMs: 30_000 })
      expect(await host.fingerprint(device)).not.toBe(written)
    },
  )

  it.each(both)('have room, or no folder: %s', async (_, hostOf) => {
    const host = hostOf()
    const free = await host.freeBytes(scratchFolder)
    const known = Number(
      (await runTool('df', ['-B1', '--output=avail', scratchFolder], { timeoutMs: 9_000 })).stdout.split('\n')[1],
    )
    expect(Math.abs(free - known)).toBeLessThan(2_000 * MIB)
    for (const bad of [join(folder.path, 'nowhere'), '/etc/hostname'])
      expect(await failureOf(host.freeBytes(bad))).toMatchObject({
        code: 'SOURCE_INVALID',
        message: expect.stringContaining('scratch_folder'),
      })
  })

  it.each(both)('are looked at with qemu-img, which says what is wrong: %s', async (_, hostOf) => {
    const host = hostOf()
    const path = join(folder.path, "im'age.qcow2")
    await host.qemuImg(['create', '-q', '-f', 'qcow2', path, '1M'], { timeoutMs: 30_000 })
    expect(JSON.parse(await host.qemuImg(['info', '--output=json', path], { timeoutMs: 30_000 }))).toMatchObject({
      format: 'qcow2',
    })
    const error = await failureOf(host.qemuImg(['info', '/nonexistent/x'], { timeoutMs: 30_000 }))
    expect(error).toMatchObject({ code: 'TOOL_FAILED', message: expect.stringContaining('No such file') })
  })

  it.each(both)('are served until closed: %s', async (_, hostOf) => {
    const path = join(folder.path, 'served.raw')
    const content = randomBytes(MIB)
    await writeFile(path, content)
    const image = { path, format: 'raw', sourceType: 'file', bitmap: null, socketPrefix: 'holdfast-b-9' }
    const served = await hostOf().serveImage(image, { runFolder })
    const endpoint = { type: 'unix' as const, path: served.path, exportName: served.exportName }
    const disk = { endpoint, sizeBytes: MIB, changes: { type: 'compare-hashes' as const }, close: () => served.close() }
    expect((await readOpenDisk(disk, null)).content.equals(content)).toBe(true)
    await served.close()
    await served.close()
    expect(await processesNaming(path)).toEqual([])
    await expectNothingLeft()
  })

  it('are not served when they are damaged, with the words of the server there', async () => {
    const path = join(folder.path, 'damaged.qcow2')
    await writeFile(path, 'QFI\xfb', 'latin1')
    const image = { path, format: 'qcow2', sourceType: 'file', bitmap: null, socketPrefix: 'holdfast-b-9' }
    const error = await failureOf(sshHost(sshd.target, { runFolder, scratchFolder }).serveImage(image, { runFolder }))
    expect(error).toMatchObject({ code: 'TOOL_FAILED', message: expect.stringContaining('damaged.qcow2') })
    await expectNothingLeft()
  })
})

describe('a hypervisor behind SSH', () => {
  const published = (...changeIdsInUse: string[]) => ({ outcome: 'published' as const, changeIdsInUse })

  async function backUp(source: LibvirtSource, domain: TestDomain, id: string, parent: { id: string; content: Buffer } | null) {
    const parentChangeIds: Record<string, string> = parent === null ? {} : { vda: checkpointName(parent.id) }
    const snapshot = await source.beginSnapshot({ backupId: id, config: domain.config, parentChangeIds }, {})
    const disk = await source.openDisk(domain.config, snapshot, 0, { runFolder })
    const read = await readOpenDisk(disk, parent?.content ?? null)
    await disk.close()
    await source.endSnapshot(domain.config, id, published(checkpointName(id)), {})
    expect(read.content.equals(await domain.content(0))).toBe(true)
    return { id, ...read }
  }

  it('is probed and discovered, and its VMs are backed up running and shut off', async () => {
    const domain = await createTestDomain(libvirt, { name: 'büro "1" \'x\' $(id)', disks: [{ sizeBytes: 16 * MIB }] })
    onTestFinished(() => domain.destroy())
    const source = new LibvirtSource(runFolder, connectionTo(sshd))
    expect(await source.platform.probe({})).toMatchObject({ version: expect.stringContaining('libvirt'), warnings: [] })
    const found = await source.platform.discoverVms({})
    expect(found.find(({ externalId }) => externalId === domain.uuid)).toMatchObject({
      name: domain.name,
      description: { powerState: 'on' },
    })

    await domain.write(0, 0, randomBytes(2 * MIB))
    const first = await backUp(source, domain, 'b-1', null)
    await domain.write(0, MIB, randomBytes(2 * MIB))
    const second = await backUp(source, domain, 'b-2', first)
    expect(second.readBytes).toBe(2 * MIB)
    await domain.write(0, 8 * MIB, randomBytes(MIB))
    await domain.shutDown()
    const third = await backUp(source, domain, 'b-3', second)
    expect(third.readBytes).toBe(MIB)
    await expectNothingLeft()
  })

  it.each<[string, (connection: SourceConnection) => Promise<Partial<SourceConnection>>, string]>([
    [
      'a wrong key',
      async () => ({ credentials: { ssh_private_key: await makeKey(join(folder.path, 'wrong')) } }),
      'SOURCE_AUTHENTICATION_FAILED',
    ],
    ['no key', async () => ({ credentials: null }), 'SOURCE_AUTHENTICATION_FAILED'],
    [
      'an unknown host key',
      async ({ config }) => ({ config: { ...config, ssh_known_hosts: '' } }),
      'SOURCE_AUTHENTICATION_FAILED',
    ],
    [
      'a port where nobody listens',
      async ({ config }) => ({ config: { ...config, uri: `qemu+ssh://root@127.0.0.1:${await freePort()}/system` } }),
      'SOURCE_UNAVAILABLE',
    ],
    [
      'a libvirt that does not run',
      async ({ config }) => ({ config: { ...config, uri: `qemu+ssh://root@127.0.0.1:${sshd.port}/system?socket=/nonexistent` } }),
      'SOURCE_UNAVAILABLE',
    ],
  ])('says what is wrong with %s', async (_, change, code) => {
    const connection = connectionTo(sshd)
    const source = new LibvirtSource(runFolder, { ...connection, ...(await change(connection)) })
    const started = performance.now()
    const error = await failureOf(source.platform.probe({}))
    expect(error.code).toBe(code)
    expect(error.message).not.toContain(runFolder)
    expect(performance.now() - started).toBeLessThan(20_000)
    await expectNothingLeft()
  })

  it.each([['running'], ['off']] as const)(
    'is cut off while a disk of a VM that is %s is read: nothing runs on, and it works again',
    async (state) => {
      const domain = await createTestDomain(libvirt, { disks: [{ sizeBytes: 16 * MIB }], state })
      onTestFinished(() => domain.destroy())
      const shaky = await startPrivateSshd(join(folder.path, `shaky-${state}`))
      onTestFinished(() => shaky.stop())
      const source = new LibvirtSource(runFolder, connectionTo(shaky))
      const snapshot = await source.beginSnapshot({ backupId: 'b-7', config: domain.config, parentChangeIds: {} }, {})
      const disk = await source.openDisk(domain.config, snapshot, 0, { runFolder })
      await readOpenDisk(disk, null)
      await shaky.cut()
      await expect.poll(async () => (await failureOf(readOpenDisk(disk, null))).retryable).toBe(true)
      const error = await failureOf(disk.close())
      expect(error).toMatchObject({ code: 'SOURCE_UNAVAILABLE', retryable: true })
      const servers = async (): Promise<string[]> =>
        (await processesNaming('qemu-nbd')).filter((line) => line.includes(domain.uuid.slice(0, 8)))
      await expect.poll(servers).toEqual([])

      const again = new LibvirtSource(runFolder, connectionTo(sshd))
      const reopened = await again.openDisk(domain.config, snapshot, 0, { runFolder })
      expect((await readOpenDisk(reopened, null)).content.equals(await domain.content(0))).toBe(true)
      await reopened.close()
      await again.endSnapshot(domain.config, 'b-7', { outcome: 'abandoned', changeIdsInUse: [] }, {})
      expect(await domain.traces(scratchFolder)).toEqual({ job: false, checkpoints: [], files: [] })
      await expectNothingLeft()
    },
  )
})
