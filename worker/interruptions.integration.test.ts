/** What stops a backup, on purpose or not, and what it leaves behind: nothing, or a transfer that goes on. */
import { existsSync } from 'node:fs'
import { readdir, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createScenario, MIB } from '../test/backup-scenario.ts'
import type { Scenario } from '../test/backup-scenario.ts'
import { processesNaming } from '../test/disk-backups.ts'
import { failureOf } from '../test/failure.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { startNbdkit } from '../test/nbd-programs.ts'
import { requireTool } from '../test/requires.ts'
import { createOperations } from '../temporal/client-operations.ts'
import { RECONCILE_SCHEDULE_ID } from '../temporal/workflow-ids.ts'
import { runTool } from '../tools/run-tool.ts'

requireTool('qemu-nbd')
requireTool('nbdkit')

/** Slow enough to be interrupted in the middle: about eight seconds. */
const slowly = { rateLimitBytesPerSecond: 4 * MIB }

let holdfast: HoldfastProcesses
let vm: Scenario

beforeAll(async () => {
  holdfast = await createHoldfastProcesses()
  vm = await createScenario(holdfast, [24 * MIB, 8 * MIB])
})

afterAll(async () => {
  await holdfast?.close()
})

describe('a running backup', () => {
  test('is the only writer of its VM', async () => {
    const { backupId } = await vm.start(slowly)
    const refusal = await failureOf(vm.start())
    expect(refusal).toMatchObject({ code: 'VM_BUSY', details: { workflow_type: 'backupVm', backup_id: backupId } })
    expect((await failureOf(holdfast.operations.deleteBackup(vm.vmContextId, backupId))).code).toBe('VM_BUSY')
    await holdfast.operations.cancelBackup(vm.vmContextId, backupId)
    await vm.ended(backupId)
  })

  test('that is cancelled leaves no process, socket, folder or running row', async () => {
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 4 * MIB)
    expect(await processesNaming(backupId), 'a server for the target').not.toEqual([])
    await holdfast.operations.cancelBackup(vm.vmContextId, backupId)
    const row = await vm.ended(backupId)
    expect(row).toMatchObject({ status: 'cancelled', error_code: 'CANCELLED' })
    await expectNothingLeft(backupId)
    expect((await disksOf(backupId)).map((disk) => disk.status)).toEqual(['cancelled', 'cancelled'])
    expect((await failureOf(holdfast.operations.cancelBackup(vm.vmContextId, backupId))).code).toBe('BACKUP_NOT_RUNNING')
  })

  test('whose mover is killed goes on where it was', async () => {
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 8 * MIB)
    await holdfast.kill('mover')
    await expect.poll(() => processesNaming(backupId), { timeout: 60_000 }).toEqual([])
    await holdfast.start('mover')
    const row = await vm.ended(backupId)
    expect(row).toMatchObject({ status: 'completed', error_message: null })
    const disks = await disksOf(backupId)
    expect(disks.map((disk) => disk.attempt > 1 && disk.resumed_at_bytes > 0)).toContain(true)
    await expectSameAsImages(backupId)
    await expectNothingLeft(backupId)
  })

  test('whose mover is stopped writes a checkpoint within seconds and goes on', async () => {
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 8 * MIB)
    expect(await holdfast.stop('mover')).toBeLessThan(20_000)
    expect(await processesNaming(backupId)).toEqual([])
    await holdfast.start('mover')
    expect(await vm.ended(backupId)).toMatchObject({ status: 'completed' })
    expect((await disksOf(backupId)).some((disk) => disk.resumed_at_bytes > 2 * MIB)).toBe(true)
    await expectSameAsImages(backupId)
  })

  test('does not notice that the control worker is killed', async () => {
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 4 * MIB)
    await holdfast.kill('control')
    await vm.reached(backupId, 12 * MIB)
    await holdfast.start('control')
    expect(await vm.ended(backupId)).toMatchObject({ status: 'completed' })
    expect((await disksOf(backupId)).map((disk) => disk.attempt)).toEqual([1, 1])
  })

  test('that is terminated is cleaned up by reconcile', async () => {
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, 4 * MIB)
    await holdfast.client.workflow.getHandle(`vm-chain:${vm.vmContextId}`).terminate('test')
    // The disks' workflows stop by themselves; reconcile waits for that, then repairs.
    await expect
      .poll(
        async () => {
          await holdfast.client.schedule.getHandle(RECONCILE_SCHEDULE_ID).trigger()
          return (await rowOf(backupId))?.status
        },
        { timeout: 60_000, interval: 1_000 },
      )
      .toBe('failed')
    expect((await rowOf(backupId))?.error_message).toContain('workflow')
    await expectNothingLeft(backupId)
  })

  test('whose source is written to starts again, and fails when that goes on', async () => {
    const { backupId } = await vm.start(slowly)
    const touching = setInterval(() => void utimes(vm.images[1]!, new Date(), new Date()), 700)
    try {
      const row = await vm.ended(backupId)
      expect(row.status).toBe('failed')
      expect(['SOURCE_CHANGED', 'SOURCE_BUSY']).toContain(row.error_code)
    } finally {
      clearInterval(touching)
    }
    await expectNothingLeft(backupId)
  })
})

test('a disk that cannot be read ends the backup, with its siblings stopped and the reason kept', async () => {
  const server = await startNbdkit('--filter=error', 'pattern', `size=${8 * MIB}`, 'error-pread-rate=100%')
  const contextId = `${vm.vmContextId}-broken`
  const disks = [
    { key: 'good', label: 'good', format: 'raw', path: vm.images[0]! },
    { key: 'broken', label: 'broken', format: 'raw', uri: `nbd+unix:///?socket=${server.endpoint.path}` },
  ]
  const config = { disks }
  await holdfast.operations.registerVm({ contextId, vmName: 'broken', sourceType: 'disk-image', hostId: 'local', config })
  // The good disk would take minutes: it ends because the other failed.
  const { backupId } = await vm.start({ vmContextId: contextId, rateLimitBytesPerSecond: MIB / 16 })
  await expect.poll(async () => (await rowOf(backupId))?.status, { timeout: 110_000, interval: 500 }).toBe('failed')
  expect(await rowOf(backupId)).toMatchObject({ error_code: 'DISK_READ_FAILED' })
  const [, broken] = await disksOf(backupId)
  expect(broken?.error_message).toContain('could not be read at offset 0')
  expect(await processesNaming(backupId)).toEqual([])
})

describe('admission', () => {
  test('refuses what the repository has no room for, with both numbers', async () => {
    const server = await startNbdkit('pattern', 'size=16T')
    const contextId = `${vm.vmContextId}-huge`
    const disks = [{ key: 'huge', label: 'huge', format: 'raw', uri: `nbd+unix:///?socket=${server.endpoint.path}` }]
    const config = { disks }
    await holdfast.operations.registerVm({ contextId, vmName: 'huge', sourceType: 'disk-image', hostId: 'local', config })
    const backupId = 'backup-huge-20260101T000000Z-aaaaaa'
    const refusal = await failureOf(vm.start({ vmContextId: contextId, backupId }))
    expect(refusal.code).toBe('INSUFFICIENT_STORAGE')
    const { required_bytes: required, available_bytes: available } = refusal.details
    expect(required).toBeGreaterThan(16 * 1024 ** 4)
    expect(available).toBeGreaterThan(0)
    expect(available).toBeLessThan(Number(required))
    expect(await rowOf(backupId)).toMatchObject({ status: 'failed', error_code: 'INSUFFICIENT_STORAGE' })
  })

  test('refuses unknown VMs and repositories', async () => {
    expect((await failureOf(vm.start({ vmContextId: 'ctx-nobody' }))).code).toBe('VM_NOT_FOUND')
    expect((await failureOf(vm.start({ repositoryId: 'repo-nowhere' }))).code).toBe('REPO_NOT_FOUND')
  })

  test('without a mover the backup waits, and a person is told', async () => {
    await holdfast.stop('mover')
    const impatient = createOperations(holdfast.client, { admissionDeadlineMs: 1_000, answerDeadlineMs: 2_000 })
    const backupId = 'backup-waits-20260101T000000Z-aaaaaa'
    const request = {
      backupId,
      vmContextId: vm.vmContextId,
      repositoryId: vm.repositoryId,
      backupType: 'full' as const,
      compression: 'none' as const,
      rateLimitBytesPerSecond: null,
    }
    const test = { repositoryId: 'repo-x', name: 'x', type: 'local' as const, hostId: 'local', config: { path: holdfast.home } }
    try {
      expect(await impatient.startBackup(request)).toMatchObject({ backupId, decided: false })
      expect((await failureOf(impatient.testRepository(test))).code).toBe('MOVER_UNAVAILABLE')
    } finally {
      // The tests after this one need it, whatever became of this one.
      await holdfast.start('mover')
    }
    expect(await vm.ended(backupId)).toMatchObject({ status: 'completed' })
  })
})

test('a second repository at the same place, and a second VM of the same name, are refused', async () => {
  const { operations } = holdfast
  const config = { path: vm.repositoryPath }
  const repository = { repositoryId: 'repo-other', name: 'other', type: 'local' as const, hostId: 'local', config }
  expect((await failureOf(operations.registerRepository(repository))).code).toBe('REPO_EXISTS')
  const sameName = { ...repository, name: vm.repositoryId, config: { path: join(holdfast.home, 'elsewhere') } }
  expect((await failureOf(operations.registerRepository(sameName))).code).toBe('REPO_EXISTS')
  expect(existsSync(join(holdfast.home, 'elsewhere'))).toBe(false)
  const disks = [{ key: 'a', label: 'a', format: 'raw', path: vm.images[0]! }]
  const again = {
    contextId: 'ctx-again',
    vmName: vm.vmName,
    sourceType: 'disk-image' as const,
    hostId: 'local',
    config: { disks },
  }
  expect((await failureOf(operations.registerVm(again))).code).toBe('VM_EXISTS')
})

async function rowOf(backupId: string) {
  return holdfast.catalog.selectFrom('backup_jobs').selectAll().where('id', '=', backupId).executeTakeFirst()
}

async function disksOf(backupId: string) {
  return holdfast.catalog
    .selectFrom('backup_disks')
    .selectAll()
    .where('backup_job_id', '=', backupId)
    .orderBy('disk_index')
    .execute()
}

async function expectNothingLeft(backupId: string): Promise<void> {
  expect(await processesNaming(backupId), 'processes').toEqual([])
  expect(existsSync(`${vm.folderOf(backupId)}.partial`), 'the staging folder').toBe(false)
  const run = join(holdfast.home, 'run', `mover-${holdfast.pid('mover')}`)
  expect(existsSync(run) ? await readdir(run) : [], 'sockets').toEqual([])
  const running = await holdfast.catalog
    .selectFrom('backup_disks')
    .select('id')
    .where('status', 'in', ['pending', 'running'])
    .execute()
  expect(running, 'rows in a running state').toEqual([])
  expect(await holdfast.catalog.selectFrom('backup_pins').selectAll().execute(), 'pins').toEqual([])
}

async function expectSameAsImages(backupId: string): Promise<void> {
  for (const [index, image] of vm.images.entries()) {
    const backup = join(vm.folderOf(backupId), `disk-${index}.qcow2`)
    await runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', image, backup], { timeoutMs: 30_000 })
  }
}
