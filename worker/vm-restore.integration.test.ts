/** VMs restored whole, through the whole of Holdfast, on a real libvirt: as new ones and over the original, finished, refused, cancelled and cut short. */
import { mkdir, open, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { disksOfRestores, findRestore } from '../db/queries/restores.ts'
import { diskRestoreId } from '../domain/restore.ts'
import type { RestoreVmRequest } from '../temporal/operations.ts'
import { restoreWorkflowId, vmChainWorkflowId } from '../temporal/workflow-ids.ts'
import { registerRepository, stepsOf } from '../test/backup-scenario.ts'
import { insertDomain } from '../test/catalog-rows.ts'
import type { BackupSteps } from '../test/backup-scenario.ts'
import { noise } from '../test/disk-backups.ts'
import { failureOf } from '../test/failure.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { createTestDomain } from '../test/libvirt-domain.ts'
import type { TestDomain } from '../test/libvirt-domain.ts'
import { startPrivateLibvirt } from '../test/private-libvirt.ts'
import type { PrivateLibvirt } from '../test/private-libvirt.ts'
import { recordHistory } from '../test/recorded-histories.ts'
import { requireTool } from '../test/requires.ts'
import { createTemporaryFolder } from '../test/temporary-folder.ts'
import { runTool } from '../tools/run-tool.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')

const MIB = 1024 ** 2

let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let libvirt: PrivateLibvirt
let holdfast: HoldfastProcesses
let count = 0

beforeAll(async () => {
  folder = await createTemporaryFolder()
  libvirt = await startPrivateLibvirt({ folder: join(folder.path, 'libvirt'), keep: true })
  holdfast = await createHoldfastProcesses()
  const scratch = join(folder.path, 'scratch')
  await mkdir(scratch)
  const config = JSON.stringify({ uri: libvirt.uri, scratch_folder: scratch })
  const source = { id: 'source-live', name: 'live', source_type: 'libvirt' as const, config, host_id: 'local' }
  await holdfast.catalog.insertInto('sources').values(source).execute()
})

afterAll(async () => {
  await holdfast?.close()
  await libvirt?.stop()
  await folder?.remove()
})

interface BackedUpVm extends BackupSteps {
  domain: TestDomain
  vmContextId: string
  backupId: string
  /** Of the backup, by disk. */
  contents: Buffer[]
}

/** A shut-off domain with a QCOW2 and a raw disk, and a full of it. */
async function backedUpVm(diskBytes = 8 * MIB): Promise<BackedUpVm> {
  const contents = [noise(diskBytes, 1), noise(diskBytes, 2)]
  const domain = await createTestDomain(libvirt, {
    disks: [{ sizeBytes: diskBytes }, { sizeBytes: diskBytes, format: 'raw' }],
    devicesXml: `<interface type='user'><mac address='52:54:00:00:00:01'/></interface>`,
    state: 'off',
  })
  for (const [disk, content] of contents.entries()) await fill(domain, disk, content)
  const vmContextId = await insertDomain(holdfast.catalog, domain, 'source-live')
  const steps = stepsOf(holdfast, { vmContextId, vmName: domain.name, ...(await registerRepository(holdfast)) })
  const { id: backupId, status, error_message: message } = await steps.backUp()
  expect(status, message ?? '').toBe('completed')
  return { domain, vmContextId, backupId, contents, ...steps }
}

/** Writes a disk of a domain that is shut off. */
async function fill(domain: TestDomain, disk: number, content: Buffer): Promise<void> {
  const { path, format } = domain.disks[disk]!
  const raw = join(folder.path, `fill-${(count += 1)}`)
  await writeFile(raw, content)
  await runTool('qemu-img', ['convert', '-n', '-f', 'raw', '-O', format, raw, path], { timeoutMs: 60_000 })
}

/** A new VM in a folder of its own. */
async function asNew({ backupId }: BackedUpVm, change: { vmName?: string; start?: boolean } = {}) {
  const number = (count += 1)
  const diskFolder = join(folder.path, `restored-${number}`)
  await mkdir(diskFolder)
  const request: RestoreVmRequest = {
    restoreId: `restore-new-${number}`,
    backupId,
    diskIndexes: [0, 1],
    target: {
      type: 'libvirt',
      sourceId: 'source-live',
      vmName: `copy ${number} <&>`,
      diskFolder,
      connectNetwork: false,
      start: false,
      ...change,
    },
  }
  return { diskFolder, request }
}

function overOriginal({ backupId, vmContextId, domain }: BackedUpVm): RestoreVmRequest {
  return {
    restoreId: `restore-over-${(count += 1)}`,
    backupId,
    diskIndexes: [0, 1],
    target: { type: 'original', sourceId: 'source-live', vmName: domain.name, vmContextId },
  }
}

async function ended(restoreId: string) {
  const row = () => findRestore(holdfast.catalog, restoreId)
  await expect.poll(async () => (await row())?.status, { timeout: 60_000, interval: 50 }).toMatch(/completed|failed|cancelled/)
  return (await row())!
}

const pinsOf = (backupId: string) =>
  holdfast.catalog.selectFrom('backup_pins').select('reason').where('backup_id', '=', backupId).execute()
const domains = async () => (await libvirt.ask('list', '--all', '--name')).split('\n').filter(Boolean).toSorted()
const closed = (workflowId: string) =>
  holdfast.client.workflow
    .getHandle(workflowId)
    .result()
    .catch(() => undefined)

async function expectContents(domain: TestDomain, expected: readonly Buffer[]): Promise<void> {
  for (const [disk, content] of expected.entries())
    expect((await domain.content(disk)).equals(content), `disk ${disk}`).toBe(true)
}

/** Begins it, and kills the mover while a disk is being written. That stands still whenever we look: on a busy machine it would be done before we see it. */
async function killedWhileWriting(path: string, request: RestoreVmRequest): Promise<void> {
  const mover = holdfast.pid('mover')
  const admitted = holdfast.operations.restoreVm(request)
  const isWriting = async (): Promise<boolean> => (await readdir(path)).some((name) => name.endsWith('.partial'))
  const look = async (): Promise<boolean> => {
    process.kill(mover, 'SIGSTOP')
    if (await isWriting()) return true
    process.kill(mover, 'SIGCONT')
    return false
  }
  await expect.poll(look, { timeout: 60_000, interval: 10 }).toBe(true)
  await holdfast.kill('mover')
  await admitted
}

describe('as a new VM', () => {
  test('it is there with its disks, its progress is known, and nothing else stays', async () => {
    const vm = await backedUpVm()
    const { request, diskFolder } = await asNew(vm, { start: true })
    await holdfast.operations.restoreVm(request)
    const row = await ended(request.restoreId)
    expect(row, row.error_message ?? '').toMatchObject({ status: 'completed', external_id: expect.any(String), warnings: [] })
    const disks = (await disksOfRestores(holdfast.catalog, [request.restoreId])).get(request.restoreId)!
    expect(disks.map(({ status, processed_bytes: processed }) => [status, processed])).toEqual([
      ['completed', 8 * MIB],
      ['completed', 8 * MIB],
    ])
    expect(await libvirt.ask('domstate', row.external_id!)).toContain('running')
    await libvirt.ask('destroy', row.external_id!)
    expect(await readdir(diskFolder)).toEqual(disks.map(({ final_path: path }) => path!.slice(diskFolder.length + 1)))
    for (const [disk, content] of vm.contents.entries()) {
      const raw = join(folder.path, 'expected')
      await writeFile(raw, content)
      await runTool('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', disks[disk]!.final_path!, raw], { timeoutMs: 60_000 })
    }
    const xml = await libvirt.ask('dumpxml', row.external_id!)
    expect(xml).toContain(`<link state='down'/>`)
    expect(xml).not.toContain('52:54:00:00:00:01')
    expect(await pinsOf(vm.backupId)).toEqual([])
    await closed(restoreWorkflowId(request.restoreId))
    await recordHistory(holdfast.client, 'restore-vm', { workflowId: restoreWorkflowId(request.restoreId) })
  })

  test('a name that is taken: refused at once, and nothing is recorded', async () => {
    const vm = await backedUpVm()
    const { request, diskFolder } = await asNew(vm, { vmName: vm.domain.name })
    expect((await failureOf(holdfast.operations.restoreVm(request))).code).toBe('VM_EXISTS')
    expect(await readdir(diskFolder)).toEqual([])
    expect(await findRestore(holdfast.catalog, request.restoreId)).toBeUndefined()
    expect(await pinsOf(vm.backupId)).toEqual([])
    await closed(restoreWorkflowId(request.restoreId))
    await recordHistory(holdfast.client, 'restore-vm-refused', { workflowId: restoreWorkflowId(request.restoreId) })
  })

  test('cancelled half-way, by a mover that was killed meanwhile: no file, no domain', async () => {
    const vm = await backedUpVm(48 * MIB)
    const before = await domains()
    const { request, diskFolder } = await asNew(vm)
    await killedWhileWriting(diskFolder, request)
    await holdfast.operations.cancelRestore(request.restoreId)
    await holdfast.start('mover')
    const row = await ended(request.restoreId)
    expect(row).toMatchObject({ status: 'cancelled', error_code: 'CANCELLED' })
    const disks = (await disksOfRestores(holdfast.catalog, [request.restoreId])).get(request.restoreId)!
    expect(disks.map(({ status }) => status)).toEqual(['cancelled', 'cancelled'])
    expect([await readdir(diskFolder), await domains()]).toEqual([[], before])
    expect(await pinsOf(vm.backupId)).toEqual([])
    await closed(restoreWorkflowId(request.restoreId))
    await recordHistory(holdfast.client, 'restore-vm-cancelled', { workflowId: restoreWorkflowId(request.restoreId) })
  })

  test('its workflow terminated half-way: reconcile removes what was written', async () => {
    const vm = await backedUpVm(48 * MIB)
    const { request, diskFolder } = await asNew(vm)
    await killedWhileWriting(diskFolder, request)
    await holdfast.client.workflow.getHandle(restoreWorkflowId(request.restoreId)).terminate()
    await holdfast.start('mover')
    await holdfast.client.workflow.execute('reconcile', {
      workflowId: `reconcile-vm-restore-${(count += 1)}`,
      taskQueue: 'control',
      args: [{ heartbeatTimeoutMs: 3_000 }],
    })
    expect(await findRestore(holdfast.catalog, request.restoreId)).toMatchObject({ status: 'failed', error_code: 'INTERNAL' })
    expect(await readdir(diskFolder)).toEqual([])
    expect(await pinsOf(vm.backupId)).toEqual([])
  })
})

describe('over the original', () => {
  test("its disks are the backup's again, and the next backup is a full", async () => {
    const vm = await backedUpVm()
    for (const disk of [0, 1]) await fill(vm.domain, disk, noise(8 * MIB, 7 + disk))
    expect((await vm.backUp({ backupType: 'incremental' })).status).toBe('completed')
    const request = overOriginal(vm)
    await holdfast.operations.restoreVm(request)
    const row = await ended(request.restoreId)
    expect(row, row.error_message ?? '').toMatchObject({ status: 'completed', external_id: vm.domain.uuid })
    await expectContents(vm.domain, vm.contents)
    expect((await vm.domain.ask('checkpoint-list', '--name')).trim()).toBe('')
    await closed(restoreWorkflowId(request.restoreId))
    await recordHistory(holdfast.client, 'restore-vm-original', { workflowId: restoreWorkflowId(request.restoreId) })
    await recordHistory(holdfast.client, 'hold-vm-chain', { workflowId: vmChainWorkflowId(vm.vmContextId) })

    const next = await vm.backUp({ backupType: 'incremental' })
    expect(next).toMatchObject({ status: 'completed', backup_type: 'full', full_reason: 'restored_in_place' })
    expect((await vm.verify(next.id)).verification_status).toBe('passed')
    await fill(vm.domain, 0, noise(8 * MIB, 20))
    expect(await vm.backUp({ backupType: 'incremental' })).toMatchObject({ status: 'completed', backup_type: 'incremental' })
  })

  test('no backup runs meanwhile, and none may be running', async () => {
    const vm = await backedUpVm()
    const backup = await vm.start({ rateLimitBytesPerSecond: 4 * MIB })
    expect((await failureOf(holdfast.operations.restoreVm(overOriginal(vm)))).code).toBe('VM_BUSY')
    await vm.ended(backup.backupId)
    const request = overOriginal(vm)
    await holdfast.operations.restoreVm(request)
    await holdfast.stop('mover')
    const refusal = await failureOf(vm.start())
    // Done already, on a quick machine: then there is nothing to keep away.
    const isDone = (await findRestore(holdfast.catalog, request.restoreId))!.status === 'completed'
    expect(isDone ? 'VM_BUSY' : refusal.code).toBe('VM_BUSY')
    await holdfast.start('mover')
    expect((await ended(request.restoreId)).status).toBe('completed')
  })

  test('running: refused; started meanwhile: it fails, and nothing was replaced', async () => {
    const vm = await backedUpVm(48 * MIB)
    await vm.domain.start()
    expect((await failureOf(holdfast.operations.restoreVm(overOriginal(vm)))).code).toBe('VM_RUNNING')
    await vm.domain.shutDown()
    const changed = noise(48 * MIB, 30)
    await fill(vm.domain, 0, changed)
    const before = await readdir(vm.domain.folder)
    const request = overOriginal(vm)
    await killedWhileWriting(vm.domain.folder, request)
    await vm.domain.start()
    await holdfast.start('mover')
    expect(await ended(request.restoreId)).toMatchObject({ status: 'failed', error_code: 'VM_RUNNING' })
    expect(await readdir(vm.domain.folder)).toEqual(before)
    expect((await vm.domain.content(0)).equals(changed)).toBe(true)
    await vm.domain.destroy()
  })

  test('a backup that is damaged: the original stays as it is', async () => {
    const vm = await backedUpVm()
    const changed = noise(8 * MIB, 40)
    await fill(vm.domain, 0, changed)
    const before = await readdir(vm.domain.folder)
    const file = await open(join(vm.folderOf(vm.backupId), 'disk-1.qcow2'), 'r+')
    await file.write(Buffer.alloc(65_536, 0xee), 0, 65_536, 4 * MIB)
    await file.close()
    const request = overOriginal(vm)
    await holdfast.operations.restoreVm(request)
    const row = await ended(request.restoreId)
    expect(row).toMatchObject({ status: 'failed', error_code: 'BACKUP_CORRUPT' })
    expect(await readdir(vm.domain.folder)).toEqual(before)
    expect((await vm.domain.content(0)).equals(changed)).toBe(true)
    expect(await findRestore(holdfast.catalog, diskRestoreId(request.restoreId, 0))).toBeUndefined()
    // The VM is free again.
    await closed(restoreWorkflowId(request.restoreId))
    expect((await vm.backUp()).status).toBe('completed')
  })
})
