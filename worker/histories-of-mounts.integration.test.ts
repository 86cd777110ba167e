/**
 * Restore mounts with real processes: their lives, what they leave, and their histories, which become files for the replay test with
 * `HOLDFAST_RECORD_HISTORIES=1`.
 */
import { mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { findRestoreMount } from '../db/queries/restore-mounts.ts'
import type { RestoreMountRow } from '../db/queries/restore-mounts.ts'
import { createScenario, MIB } from '../test/backup-scenario.ts'
import type { Scenario } from '../test/backup-scenario.ts'
import { countRows } from '../test/catalog-rows.ts'
import { failureOf } from '../test/failure.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { tracesOnHost } from '../test/mount-traces.ts'
import { eventCount, recordHistory } from '../test/recorded-histories.ts'
import { requireTool } from '../test/requires.ts'
import type { OpenMountRequest } from '../temporal/operations.ts'
import { restoreMountId } from '../temporal/restore-mount-ids.ts'
import { RECONCILE_SCHEDULE_ID, restoreMountWorkflowId, vmChainWorkflowId } from '../temporal/workflow-ids.ts'
import { runTool } from '../tools/run-tool.ts'

requireTool('qemu-storage-daemon')
requireTool('linux.uml')
requireTool('bwrap')
requireTool('mkfs.ext4')

const HOUR = 3_600_000

let holdfast: HoldfastProcesses
let vm: Scenario
let backupId: string

beforeAll(async () => {
  holdfast = await createHoldfastProcesses()
  vm = await createScenario(holdfast, [16 * MIB, MIB])
  const folder = join(holdfast.home, 'content')
  await mkdir(folder)
  await writeFile(join(folder, 'hello.txt'), 'hello\n')
  await runTool('mkfs.ext4', ['-q', '-F', '-d', folder, vm.images[0]!], { timeoutMs: 30_000 })
  backupId = (await vm.start()).backupId
  // Throws why, if it did not complete.
  await holdfast.client.workflow.getHandle(vmChainWorkflowId(vm.vmContextId)).result()
})

afterAll(async () => {
  await holdfast?.close()
})

afterEach(async () => {
  for (const diskIndex of [0, 1])
    await holdfast.operations.releaseMount(restoreMountId(backupId, diskIndex)).catch(() => undefined)
})

async function expectNothingLeft(): Promise<void> {
  await expect.poll(tracesOfMounts).toEqual([])
  expect(await countRows(holdfast.catalog, 'restore_mounts'), 'rows').toBe(0)
  expect(await countRows(holdfast.catalog, 'backup_pins'), 'pins').toBe(0)
}

/** Processes and mounts. */
const tracesOfMounts = () => tracesOnHost(join(holdfast.home, 'run'))

function requestFor(diskIndex: number, change: Partial<OpenMountRequest> = {}): OpenMountRequest {
  return { mountId: restoreMountId(backupId, diskIndex), backupId, diskIndex, idleMs: HOUR, maximumMs: 24 * HOUR, ...change }
}

const rowOf = (mountId: string) => findRestoreMount(holdfast.catalog, mountId)

/** Mounts the disk with the file system. */
async function mountDisk(change: Partial<OpenMountRequest> = {}): Promise<RestoreMountRow> {
  const request = requestFor(0, change)
  await holdfast.operations.openMount(request)
  const row = await rowOf(request.mountId)
  await expectMounted(row)
  return row!
}

async function expectMounted(row: RestoreMountRow | undefined): Promise<void> {
  expect(row).toMatchObject({ status: 'mounted', filesystem_type: 'ext4', driver: 'user-mode-linux', host_id: 'local' })
  expect(row!.volumes).toMatchObject([{ state: 'readable', fileSystem: 'ext4' }])
  const device = await open(row!.nbd_device)
  const { buffer } = await device.read(Buffer.alloc(2), 0, 2, 1024 + 0x38)
  await device.close()
  expect(buffer.toString('hex'), 'the magic number of ext4').toBe('53ef')
}

/** Waits until it is mounted as something else than before. */
async function mountedAgain(before: RestoreMountRow): Promise<RestoreMountRow> {
  const again = async (): Promise<boolean> => {
    const row = await rowOf(before.id)
    return row?.status === 'mounted' && row.nbd_device !== before.nbd_device
  }
  await expect.poll(again, { timeout: 60_000, interval: 100 }).toBe(true)
  const row = await rowOf(before.id)
  await expectMounted(row)
  return row!
}

async function record(name: string, mountId: string, runId?: string): Promise<number> {
  const run = { workflowId: restoreMountWorkflowId(mountId), ...(runId !== undefined && { runId }) }
  await recordHistory(holdfast.client, name, run)
  return eventCount(holdfast.client, run)
}

describe('a mount', () => {
  test('is opened, shared, extended and released, in few events', async () => {
    const { id: mountId } = await mountDisk()
    await holdfast.operations.openMount(requestFor(0))
    const { expiresAt } = await holdfast.operations.extendMount(mountId)
    expect(Date.parse(expiresAt) - Date.now()).toBeGreaterThan(HOUR - 60_000)
    const refusal = await failureOf(holdfast.operations.deleteBackup(vm.vmContextId, backupId))
    expect(refusal).toMatchObject({ code: 'BACKUP_PINNED', message: expect.stringContaining('restore mount') })
    const began = performance.now()
    await holdfast.operations.releaseMount(mountId)
    expect(performance.now() - began, 'no wait for a heartbeat').toBeLessThan(10_000)
    expect(await rowOf(mountId)).toBeUndefined()
    await holdfast.client.workflow.getHandle(restoreMountWorkflowId(mountId)).result()
    expect((await failureOf(holdfast.operations.releaseMount(mountId))).code).toBe('MOUNT_NOT_FOUND')
    expect(await record('mount-released', mountId)).toBeLessThanOrEqual(90)
    await expectNothingLeft()
  })

  test('ends by itself when nobody uses it', async () => {
    const { mountId } = requestFor(0)
    await mountDisk({ idleMs: 6_000 })
    await holdfast.client.workflow.getHandle(restoreMountWorkflowId(mountId)).result()
    expect(await rowOf(mountId)).toBeUndefined()
    expect(await record('mount-expired', mountId)).toBeLessThanOrEqual(70)
    await expectNothingLeft()
  })

  test('of a disk without a readable file system is refused', async () => {
    const request = requestFor(1)
    const refusal = await failureOf(holdfast.operations.openMount(request))
    expect(refusal).toMatchObject({ code: 'FILE_SYSTEM_UNREADABLE' })
    expect(await rowOf(request.mountId)).toBeUndefined()
    await record('mount-refused', request.mountId)
    await expectNothingLeft()
  })

  test('of a disk that is not there is refused', async () => {
    const refusal = await failureOf(holdfast.operations.openMount(requestFor(7)))
    expect(refusal).toMatchObject({ code: 'DISK_NOT_FOUND', details: { disk_indexes: [0, 1] } })
    await expectNothingLeft()
  })

  test('is opened again by a mover that was restarted, and by one that was killed', async () => {
    const first = await mountDisk()
    expect(await holdfast.stop('mover')).toBeLessThan(20_000)
    expect(await rowOf(first.id)).toMatchObject({ status: 'mounting' })
    expect(await tracesOfMounts()).toEqual([])
    await holdfast.start('mover')
    const second = await mountedAgain(first)
    await holdfast.kill('mover')
    await expect.poll(tracesOfMounts).toEqual([])
    await holdfast.start('mover')
    await mountedAgain(second)
    await holdfast.operations.releaseMount(first.id)
    await record('mount-moved', first.id)
    await expectNothingLeft()
  })

  test('of a host that is away is unmounted when the host is back', async () => {
    const { id } = await mountDisk()
    await holdfast.kill('mover')
    const released = holdfast.operations.releaseMount(id)
    await expect.poll(async () => (await rowOf(id))?.status).toBe('unmounting')
    expect(await countRows(holdfast.catalog, 'backup_pins')).toBe(1)
    await holdfast.start('mover')
    await released
    expect(await rowOf(id)).toBeUndefined()
    await expectNothingLeft()
  })

  test('whose workflow is terminated is unmounted by reconcile', async () => {
    const { id } = await mountDisk()
    await holdfast.client.workflow.getHandle(restoreMountWorkflowId(id)).terminate('test')
    const repaired = async (): Promise<boolean> => {
      await holdfast.client.schedule.getHandle(RECONCILE_SCHEDULE_ID).trigger()
      return (await rowOf(id)) === undefined && (await countRows(holdfast.catalog, 'backup_pins')) === 0
    }
    await expect.poll(repaired, { timeout: 60_000, interval: 1_000 }).toBe(true)
    // Said when the whole pass has ended.
    await expect.poll(() => holdfast.output()).toContain('the workflow of its mount is gone')
    await expectNothingLeft()
  })

  test('that the catalog has lost is closed by reconcile', async () => {
    const { id } = await mountDisk()
    await holdfast.client.workflow.getHandle(restoreMountWorkflowId(id)).terminate('test')
    await holdfast.catalog.deleteFrom('restore_mounts').execute()
    const closed = async (): Promise<string[]> => {
      await holdfast.client.schedule.getHandle(RECONCILE_SCHEDULE_ID).trigger()
      return tracesOfMounts()
    }
    await expect.poll(closed, { timeout: 60_000, interval: 1_000 }).toEqual([])
    await expect.poll(() => countRows(holdfast.catalog, 'backup_pins')).toBe(0)
    await expectNothingLeft()
  })
})
