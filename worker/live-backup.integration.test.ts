/**
 * Live domains of a real libvirt through the whole of Holdfast: what happens to the domain, to libvirt and to our own processes while a
 * backup runs, and between two of them. What a source must do by itself is in `sources/conformance.ts`.
 */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { disksOfBackup } from '../db/queries/backup-detail.ts'
import { registerRepository, stepsOf } from '../test/backup-scenario.ts'
import { insertDomain } from '../test/catalog-rows.ts'
import type { BackupSteps } from '../test/backup-scenario.ts'
import { noise } from '../test/disk-backups.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { createTestDomain } from '../test/libvirt-domain.ts'
import type { TestDomain } from '../test/libvirt-domain.ts'
import { startPrivateLibvirt } from '../test/private-libvirt.ts'
import type { PrivateLibvirt } from '../test/private-libvirt.ts'
import { requireTool } from '../test/requires.ts'
import { createTemporaryFolder } from '../test/temporary-folder.ts'
import { runTool } from '../tools/run-tool.ts'
import type { Manifest } from '../domain/manifest.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')

const MIB = 1024 ** 2
const DISK_BYTES = 12 * MIB
/** A full of both disks takes about six seconds. */
const slowly = { rateLimitBytesPerSecond: 4 * MIB }

let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let libvirt: PrivateLibvirt
let holdfast: HoldfastProcesses
let scratchFolder: string
let domains: TestDomain[] = []

beforeAll(async () => {
  folder = await createTemporaryFolder()
  scratchFolder = join(folder.path, 'scratch')
  await mkdir(scratchFolder)
  libvirt = await startPrivateLibvirt({ folder: join(folder.path, 'libvirt'), keep: true })
  holdfast = await createHoldfastProcesses()
  const config = JSON.stringify({ uri: libvirt.uri, scratch_folder: scratchFolder })
  await holdfast.catalog
    .insertInto('sources')
    .values({ id: 'source-live', name: 'live', source_type: 'libvirt', config, host_id: 'local' })
    .execute()
})

afterEach(async () => {
  await Promise.all(domains.map((domain) => domain.destroy()))
  domains = []
})

afterAll(async () => {
  await holdfast?.close()
  await libvirt?.stop()
  await folder?.remove()
})

interface LiveVm extends BackupSteps {
  domain: TestDomain
  repositoryId: string
  vmContextId: string
}

/** A running domain with two disks full of what does not compress, known to the catalog, and a repository. */
async function liveVm(): Promise<LiveVm> {
  const disks = [{ sizeBytes: DISK_BYTES }, { sizeBytes: DISK_BYTES }]
  const domain = await createTestDomain(libvirt, { disks })
  domains.push(domain)
  for (const disk of [0, 1]) await domain.write(disk, 0, noise(DISK_BYTES, disk + 1))
  const vmContextId = await insertDomain(holdfast.catalog, domain, 'source-live')
  const repository = await registerRepository(holdfast)
  const steps = stepsOf(holdfast, { vmContextId, vmName: domain.name, ...repository })
  return { domain, vmContextId, repositoryId: repository.repositoryId, ...steps }
}

async function contents({ domain }: LiveVm): Promise<Buffer[]> {
  return Promise.all(domain.disks.map((_, disk) => domain.content(disk)))
}

/** Every disk of the published backup, read with nothing but `qemu-img`, is what it was at its instant. */
async function expectHolds(vm: LiveVm, backupId: string, expected: readonly Buffer[]): Promise<void> {
  for (const [disk, content] of expected.entries()) {
    const copy = join(folder.path, 'copy.raw')
    const published = join(vm.folderOf(backupId), `disk-${disk}.qcow2`)
    await runTool('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', published, copy], { timeoutMs: 60_000 })
    expect((await readFile(copy)).equals(content), `disk ${disk} of ${backupId}`).toBe(true)
  }
}

/** Restores every disk of the backup through the product and compares. */
async function expectRestores(backupId: string, expected: readonly Buffer[]): Promise<void> {
  for (const [diskIndex, content] of expected.entries()) {
    const restoreId = `restore-${backupId}-${diskIndex}`
    const targetPath = join(folder.path, `${restoreId}.raw`)
    await holdfast.operations.restoreDisk({ restoreId, backupId, diskIndex, targetPath, targetFormat: 'raw' })
    await expect.poll(() => restoreState(restoreId), { timeout: 60_000, interval: 50 }).toBe('completed')
    expect((await readFile(targetPath)).equals(content), `disk ${diskIndex} of ${backupId}`).toBe(true)
  }
}

async function restoreState(id: string): Promise<string | undefined> {
  const row = await holdfast.catalog.selectFrom('restore_jobs').select('status').where('id', '=', id).executeTakeFirst()
  return row?.status
}

/** No job, no file, and of our checkpoints only those of the given backups. */
async function expectOnly(vm: LiveVm, ...backupIds: string[]): Promise<void> {
  const checkpoints = backupIds.map((id) => `holdfast-${id}`)
  expect(await vm.domain.traces(scratchFolder)).toEqual({ job: false, checkpoints, files: [] })
}

async function manifestOf(vm: LiveVm, backupId: string): Promise<Manifest> {
  return JSON.parse(await readFile(join(vm.folderOf(backupId), 'manifest.json'), 'utf8'))
}

describe('a running domain', () => {
  test('is backed up in full, then only what changed, each as of its instant', async () => {
    const vm = await liveVm()
    const atFull = await contents(vm)
    const full = await vm.backUp({ compression: 'zstd' })
    expect(full).toMatchObject({ status: 'completed', backup_type: 'full', consistency: 'crash', warnings: [] })
    await vm.domain.write(0, 5 * MIB, noise(MIB, 9))
    await vm.domain.zero(0, 8 * MIB, 2 * MIB)
    await vm.domain.discard(1, 10 * MIB, MIB)
    const atIncremental = await contents(vm)
    const { backupId } = await vm.start({ backupType: 'incremental' })
    const incremental = await vm.ended(backupId)
    expect(incremental).toMatchObject({ status: 'completed', backup_type: 'incremental', parent_backup_id: full.id })
    // 1 MiB of data; zeroes are stored as such.
    expect(incremental.bytes_transferred).toBeLessThan(5 * MIB)
    await expectOnly(vm, backupId)
    await expectHolds(vm, full.id, atFull)
    await expectRestores(backupId, atIncremental)
    expect((await vm.verify(backupId)).verification_status).toBe('passed')
    const manifest = await manifestOf(vm, backupId)
    expect(manifest.disks.map((disk) => disk.change_id)).toEqual([`holdfast-${backupId}`, `holdfast-${backupId}`])
    expect(JSON.stringify(manifest.vm.config)).toContain(vm.domain.uuid)
  })

  test('goes on writing while it is backed up, and the backup does not see it', async () => {
    const vm = await liveVm()
    const before = await contents(vm)
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, MIB)
    await vm.domain.write(0, 8 * MIB, noise(4 * MIB, 7))
    await vm.domain.zero(1, 0, 4 * MIB)
    expect(await vm.ended(backupId)).toMatchObject({ status: 'completed' })
    await expectHolds(vm, backupId, before)
    const after = await contents(vm)
    const next = await vm.backUp({ backupType: 'incremental' })
    expect(next).toMatchObject({ status: 'completed', backup_type: 'incremental' })
    await expectHolds(vm, next.id, after)
  })

  test('that is cancelled half-way is left as it was found', async () => {
    const vm = await liveVm()
    const full = await vm.backUp()
    await vm.domain.write(0, 0, noise(8 * MIB, 5))
    const { backupId } = await vm.start({ backupType: 'incremental', rateLimitBytesPerSecond: MIB })
    await vm.reached(backupId, 1)
    await holdfast.operations.cancelBackup(vm.vmContextId, backupId)
    expect(await vm.ended(backupId)).toMatchObject({ status: 'cancelled' })
    await expectOnly(vm, full.id)
    const content = await contents(vm)
    const next = await vm.backUp({ backupType: 'incremental' })
    expect(next).toMatchObject({ status: 'completed', backup_type: 'incremental', parent_backup_id: full.id })
    await expectHolds(vm, next.id, content)
  })

  test('in two repositories has two chains, and each knows what changed since its own newest backup', async () => {
    const vm = await liveVm()
    const other = await registerRepository(holdfast)
    const here = await vm.backUp()
    await vm.domain.write(0, 0, noise(MIB, 11))
    const there = await vm.backUp({ repositoryId: other.repositoryId })
    await expectOnly(vm, here.id, there.id)
    await vm.domain.write(0, 8 * MIB, noise(MIB, 12))
    const content = await contents(vm)
    const next = await vm.backUp({ backupType: 'incremental' })
    expect(next).toMatchObject({ status: 'completed', backup_type: 'incremental', parent_backup_id: here.id })
    await expectHolds(vm, next.id, content)
  })
})

describe('kill -9', () => {
  test('of the mover: the same libvirt job serves the rest, and nothing is left', async () => {
    const vm = await liveVm()
    const before = await contents(vm)
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 4 * MIB)
    const job = await vm.domain.ask('backup-dumpxml')
    await holdfast.kill('mover')
    await vm.domain.write(0, 0, noise(8 * MIB, 3))
    await holdfast.start('mover')
    expect(await vm.domain.ask('backup-dumpxml')).toBe(job)
    expect(await vm.ended(backupId)).toMatchObject({ status: 'completed' })
    const disks = await disksOfBackup(holdfast.catalog, backupId)
    expect(disks.some((disk) => disk.resumed_at_bytes > 0)).toBe(true)
    await expectHolds(vm, backupId, before)
    await expectOnly(vm, backupId)
  })

  test('of the mover, and the job ends meanwhile: the backup begins again', async () => {
    const vm = await liveVm()
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 4 * MIB)
    await holdfast.kill('mover')
    await vm.domain.ask('domjobabort')
    await vm.domain.write(0, 0, noise(8 * MIB, 3))
    const content = await contents(vm)
    await holdfast.start('mover')
    expect(await vm.ended(backupId)).toMatchObject({ status: 'completed' })
    await expectHolds(vm, backupId, content)
    await expectOnly(vm, backupId)
  })

  test('of QEMU between two backups: the next is a full, and says why', async () => {
    const vm = await liveVm()
    await vm.backUp()
    await vm.domain.crash()
    await vm.domain.start()
    await vm.domain.write(1, MIB, noise(MIB, 21))
    const content = await contents(vm)
    const next = await vm.backUp({ backupType: 'incremental' })
    expect(next).toMatchObject({ status: 'completed', backup_type: 'full', full_reason: 'bitmap_lost' })
    expect(next.full_reason_detail).toContain('the record of changes since holdfast-')
    await expectHolds(vm, next.id, content)
    await expectOnly(vm, next.id)
    expect(await vm.backUp({ backupType: 'incremental' })).toMatchObject({ status: 'completed', backup_type: 'incremental' })
  })

  test('of QEMU during a backup: the backup begins again with the domain as it is now', async () => {
    const vm = await liveVm()
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 4 * MIB)
    await vm.domain.crash()
    const content = await contents(vm)
    expect(await vm.ended(backupId)).toMatchObject({ status: 'completed', backup_type: 'full' })
    await expectHolds(vm, backupId, content)
  })

  test('of libvirtd during a backup: QEMU serves on, and the domain is intact', async () => {
    const vm = await liveVm()
    const before = await contents(vm)
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 4 * MIB)
    await libvirt.restart()
    expect(await vm.ended(backupId)).toMatchObject({ status: 'completed' })
    await expectHolds(vm, backupId, before)
    await expectOnly(vm, backupId)
    expect(await vm.domain.ask('domstate')).toContain('paused')
  })
})

describe('a domain whose disks change between two backups', () => {
  test('an added disk is a full for itself, a removed one is named, an excluded one too', async () => {
    const vm = await liveVm()
    const full = await vm.backUp()
    await vm.domain.addDisk({ sizeBytes: 8 * MIB })
    await vm.domain.write(2, 0, noise(MIB, 31))
    const added = await vm.backUp({ backupType: 'incremental' })
    expect(added).toMatchObject({ status: 'completed', backup_type: 'incremental', parent_backup_id: full.id })
    const disks = await disksOfBackup(holdfast.catalog, added.id)
    expect(disks.map(({ disk_key: key, backup_type: type, full_reason: reason }) => [key, type, reason])).toEqual([
      ['vda', 'incremental', null],
      ['vdb', 'incremental', null],
      ['vdc', 'full', 'disk_added'],
    ])
    await expectHolds(vm, added.id, await contents(vm))
    const config = JSON.stringify({ ...vm.domain.config, excluded_disks: ['vdc'] })
    await holdfast.catalog.updateTable('vm_contexts').set({ config }).where('context_id', '=', vm.vmContextId).execute()
    const excluded = await vm.backUp({ backupType: 'incremental' })
    expect(excluded).toMatchObject({ status: 'completed', backup_type: 'incremental' })
    expect(excluded.warnings).toEqual(expect.arrayContaining([expect.objectContaining({ code: 'disk_excluded', disk: 'vdc' })]))
    expect((await manifestOf(vm, excluded.id)).disks.map((disk) => disk.key)).toEqual(['vda', 'vdb'])
  })

  test('a disk that has grown grows in the backup', async () => {
    const vm = await liveVm()
    await vm.backUp()
    await vm.domain.growDisk(1, DISK_BYTES + 8 * MIB)
    await vm.domain.write(1, DISK_BYTES, noise(MIB, 41))
    const content = await contents(vm)
    const grown = await vm.backUp({ backupType: 'incremental' })
    expect(grown).toMatchObject({ status: 'completed', backup_type: 'incremental' })
    await expectHolds(vm, grown.id, content)
  })
})

test('a domain is backed up running, shut off and running again in one chain', async () => {
  const vm = await liveVm()
  await vm.backUp()
  await vm.domain.write(0, MIB, noise(MIB, 51))
  await vm.domain.shutDown()
  const off = await contents(vm)
  const whileOff = await vm.backUp({ backupType: 'incremental' })
  expect(whileOff).toMatchObject({ status: 'completed', backup_type: 'incremental' })
  expect(whileOff.bytes_transferred).toBeLessThan(4 * MIB)
  await expectHolds(vm, whileOff.id, off)
  await vm.domain.start()
  await vm.domain.write(1, 3 * MIB, noise(MIB, 52))
  const running = await contents(vm)
  const again = await vm.backUp({ backupType: 'incremental' })
  expect(again).toMatchObject({ status: 'completed', backup_type: 'incremental', parent_backup_id: whileOff.id })
  expect(again.bytes_transferred).toBeLessThan(4 * MIB)
  await expectHolds(vm, again.id, running)
  await expectOnly(vm, again.id)
})

test('a hypervisor that is away ends the backup with the reason, and the domain is found untouched', async () => {
  const vm = await liveVm()
  const full = await vm.backUp()
  const uri = 'qemu+unix:///system?socket=/nowhere/libvirt-sock'
  const config = JSON.stringify({ uri, scratch_folder: scratchFolder })
  await holdfast.catalog
    .insertInto('sources')
    .values({ id: 'source-away', name: 'away', source_type: 'libvirt', config, host_id: 'local' })
    .execute()
  const contextOf = { source_id: 'source-away', external_id: vm.domain.uuid }
  await holdfast.catalog.updateTable('vm_contexts').set(contextOf).where('context_id', '=', vm.vmContextId).execute()
  const { backupId, decided } = await vm.start({ backupType: 'incremental' })
  expect(decided).toBe(false)
  await holdfast.operations.cancelBackup(vm.vmContextId, backupId)
  expect(await vm.ended(backupId)).toMatchObject({ status: 'cancelled' })
  await expectOnly(vm, full.id)
})
