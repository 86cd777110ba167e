/**
 * A small disk that fills up under a backup, or goes away: the backup is parked, goes on from its journal, or is cancelled without a trace; and
 * backups are deleted from a disk without a free block. With real processes, and ext4 on a loop device. With `HOLDFAST_RECORD_HISTORIES=1` the
 * histories become files for `workflows/replay.test.ts`.
 */
import { readdir, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createScenario, MIB } from '../test/backup-scenario.ts'
import type { Scenario } from '../test/backup-scenario.ts'
import { recordHistory } from '../test/recorded-histories.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { requireTool } from '../test/requires.ts'
import { createSmallDisk } from '../test/small-disk.ts'
import type { SmallDisk } from '../test/small-disk.ts'
import { backupDiskWorkflowId, vmChainWorkflowId } from '../temporal/workflow-ids.ts'
import { runTool } from '../tools/run-tool.ts'

requireTool('qemu-nbd')
requireTool('mkfs.ext4')

/** About six seconds for the larger disk. */
const slowly = { rateLimitBytesPerSecond: 4 * MIB }
const soon = { timeout: 30_000, interval: 50 }

let holdfast: HoldfastProcesses
let disk: SmallDisk
let vm: Scenario

beforeAll(async () => {
  holdfast = await createHoldfastProcesses()
  disk = await createSmallDisk(96 * MIB)
  vm = await createScenario(holdfast, [24 * MIB, 8 * MIB], disk.path)
})

afterAll(async () => {
  await holdfast?.close()
  await disk?.remove()
})

describe('a backup whose repository fills up under it', () => {
  test('is parked and says so, goes on when there is room, and reads back as it was first read', async () => {
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 4 * MIB)
    const filler = await disk.fill()
    await expect
      .poll(() => rowOf(backupId), soon)
      .toMatchObject({
        status: 'running',
        parked_reason: 'repository_full',
        parked_message: expect.stringContaining('free'),
      })
    await expectParked(backupId, 'repository_full')
    expect(await openAlerts(backupId)).toEqual([{ kind: 'backup_parked', severity: 'warning' }])
    await rm(filler)
    expect(await vm.ended(backupId)).toMatchObject({ status: 'completed', error_message: null, parked_reason: null })
    expect((await disksOf(backupId)).some((row) => row.resumed_at_bytes > 0)).toBe(true)
    await expectNothingNoted(backupId)
    await record('parked', backupId)
    expect(await vm.verify(backupId)).toMatchObject({ verification_status: 'passed' })
    await expectSameAsImages(backupId)
    await holdfast.operations.deleteBackup(vm.vmContextId, backupId)
  })

  test('leaves nothing when it is cancelled while it is parked', async () => {
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 4 * MIB)
    const filler = await disk.fill()
    await expectParked(backupId, 'repository_full')
    await holdfast.operations.cancelBackup(vm.vmContextId, backupId)
    const row = await vm.ended(backupId)
    expect(row).toMatchObject({ status: 'cancelled', parked_reason: null, error_message: 'The work was cancelled.' })
    expect(await foldersOfVm()).toEqual([])
    await expectNothingNoted(backupId)
    await record('parked-cancelled', backupId)
    await rm(filler)
  })
})

describe('a backup whose repository goes away under it', () => {
  test('is parked, and goes on when it is back', async () => {
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 4 * MIB)
    await disk.unmount()
    await expectParked(backupId, 'repository_unavailable')
    await disk.mount()
    expect(await vm.ended(backupId)).toMatchObject({ status: 'completed', parked_reason: null })
    await expectNothingNoted(backupId)
    await expectSameAsImages(backupId)
    await holdfast.operations.deleteBackup(vm.vmContextId, backupId)
  })

  test('can be cancelled meanwhile, and what it leaves there goes once that can be reached', async () => {
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 4 * MIB)
    await disk.unmount()
    await expectParked(backupId, 'repository_unavailable')
    await holdfast.operations.cancelBackup(vm.vmContextId, backupId)
    const row = await vm.ended(backupId)
    expect(row).toMatchObject({ status: 'cancelled', error_message: expect.stringContaining('discard the staged files') })
    await disk.mount()
    expect(await foldersOfVm()).toEqual([`${backupId}.partial`])
    await record('parked-abandoned', backupId)
    await reconcile()
    expect(await foldersOfVm()).toEqual([])
    await expectNothingNoted(backupId)
  })
})

test('a backup is deleted from a disk without a free block', async () => {
  const { id } = await vm.backUp()
  await disk.fill()
  expect((await statfs(disk.path)).bfree).toBe(0)
  await holdfast.operations.deleteBackup(vm.vmContextId, id)
  expect(await foldersOfVm()).toEqual([])
  expect((await statfs(disk.path)).bfree).toBeGreaterThan(0)
})

/** Its larger disk waits; the other one may be done. */
async function expectParked(backupId: string, reason: string): Promise<void> {
  await expect.poll(async () => (await disksOf(backupId))[0]?.parked_at, soon).toBeInstanceOf(Date)
  expect((await rowOf(backupId)).parked_reason).toBe(reason)
}

/** Of the backup, and of the disk that waited. */
async function record(what: string, backupId: string): Promise<void> {
  const chain = vmChainWorkflowId(vm.vmContextId)
  await recordHistory(holdfast.client, `backup-${what}`, { workflowId: chain })
  await recordHistory(holdfast.client, `backup-disk-${what}`, { workflowId: backupDiskWorkflowId(chain, backupId, 0) })
}

/** No alert, no reservation, no disk that waits. */
async function expectNothingNoted(backupId: string): Promise<void> {
  expect(await openAlerts(backupId)).toEqual([])
  expect(await holdfast.catalog.selectFrom('repository_reservations').selectAll().execute()).toEqual([])
  expect((await disksOf(backupId)).map((row) => row.parked_at)).toEqual([null, null])
}

async function expectSameAsImages(backupId: string): Promise<void> {
  for (const [index, image] of vm.images.entries()) {
    const backup = join(vm.folderOf(backupId), `disk-${index}.qcow2`)
    await runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', image, backup], { timeoutMs: 30_000 })
  }
}

async function reconcile(): Promise<void> {
  const args: [object] = [{ heartbeatTimeoutMs: 3_000 }]
  await holdfast.client.workflow.execute('reconcile', { workflowId: 'reconcile-now', taskQueue: 'control', args })
}

function rowOf(backupId: string) {
  return holdfast.catalog.selectFrom('backup_jobs').selectAll().where('id', '=', backupId).executeTakeFirstOrThrow()
}

function disksOf(backupId: string) {
  return holdfast.catalog
    .selectFrom('backup_disks')
    .selectAll()
    .where('backup_job_id', '=', backupId)
    .orderBy('disk_index')
    .execute()
}

function openAlerts(backupId: string) {
  const alerts = holdfast.catalog.selectFrom('alerts').select(['kind', 'severity'])
  return alerts.where('backup_id', '=', backupId).where('resolved_at', 'is', null).execute()
}

/** The folder goes with the last backup. */
async function foldersOfVm(): Promise<string[]> {
  const vms = join(disk.path, 'vms')
  const folders = await Promise.all((await readdir(vms)).map((name) => readdir(join(vms, name))))
  return folders.flat()
}
