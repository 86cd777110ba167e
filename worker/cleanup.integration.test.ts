/** What a workflow leaves that was cancelled or terminated in the middle: it is undone, or finished when the point of no return was passed. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { WorkflowFailedError } from '@temporalio/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { markForDeletion } from '../db/queries/pins.ts'
import { backupIdFor } from '../domain/ids.ts'
import { createScenario, MIB } from '../test/backup-scenario.ts'
import type { Scenario } from '../test/backup-scenario.ts'
import { processesNaming } from '../test/disk-backups.ts'
import { failureOf } from '../test/failure.ts'
import { createHoldfastProcesses, HEARTBEAT_TIMEOUT_MS } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { requireTool } from '../test/requires.ts'
import type { Repair } from '../activities/reconciliation.ts'
import { CONTROL_QUEUE } from '../temporal/task-queues.ts'
import { RECONCILE_SCHEDULE_ID, restoreWorkflowId, vmChainWorkflowId } from '../temporal/workflow-ids.ts'
import { runTool } from '../tools/run-tool.ts'

requireTool('qemu-nbd')

let holdfast: HoldfastProcesses
let vm: Scenario
let other: Scenario
/** A published backup of `vm`. */
let published: string

beforeAll(async () => {
  holdfast = await createHoldfastProcesses()
  // Only the tests say when it runs.
  await holdfast.client.schedule.getHandle(RECONCILE_SCHEDULE_ID).pause()
  vm = await createScenario(holdfast, [64 * MIB])
  other = await createScenario(holdfast, [8 * MIB])
})

afterAll(async () => {
  await holdfast?.close()
})

test('there is a backup to work on', async () => {
  const row = await vm.backUp()
  expect(row.status).toBe('completed')
  published = row.id
})

describe('a restore in the middle', () => {
  test('that is cancelled leaves no target, journal, process, pin or running row, even when its server hangs', async () => {
    const restore = await startHangingRestore('restore-cancelled')
    await holdfast.operations.cancelRestore(restore.id)
    await expect(resultOf(restoreWorkflowId(restore.id))).rejects.toBeInstanceOf(WorkflowFailedError)
    expect(await restoreRow(restore.id)).toMatchObject({ status: 'cancelled', error_code: 'CANCELLED' })
    await expectNothingLeft(restore)
    expect((await failureOf(holdfast.operations.cancelRestore(restore.id))).code).toBe('RESTORE_NOT_RUNNING')
  })

  test('that is terminated is ended by reconcile, which removes what it wrote and then its pin', async () => {
    const restore = await startHangingRestore('restore-terminated')
    await holdfast.kill('mover')
    await terminate(restoreWorkflowId(restore.id))
    await holdfast.start('mover')
    expect(existsSync(`${restore.targetPath}.partial`)).toBe(true)
    const repairs = await reconcile()
    expect(repairs.map((repair) => repair.kind)).toEqual(expect.arrayContaining(['restore', 'pin']))
    const row = await restoreRow(restore.id)
    expect(row).toMatchObject({ status: 'failed', error_code: 'INTERNAL' })
    expect(row?.error_message).toContain('The unfinished target was removed')
    await expectNothingLeft(restore)
  })
})

test('a restore whose target has its name already keeps it, and the row says so', async () => {
  const targetPath = join(holdfast.home, 'restore-named.raw')
  const request = { restoreId: 'restore-named', backupId: published, diskIndex: 0, targetPath, targetFormat: 'raw' as const }
  await holdfast.operations.restoreDisk(request)
  await resultOf(restoreWorkflowId(request.restoreId))
  // As if the workflow had been terminated right before the last step.
  await holdfast.catalog.updateTable('restore_jobs').set({ status: 'running' }).where('id', '=', request.restoreId).execute()
  await reconcile()
  const row = await restoreRow(request.restoreId)
  expect(row?.status).toBe('failed')
  expect(row?.error_message).toContain(`"${targetPath}" exists`)
  await runTool('cmp', [targetPath, vm.images[0]!], { timeoutMs: 30_000 })
})

describe('a backup in the middle', () => {
  test('that is terminated is removed after its mover is back, with what nobody owns; another that runs is left alone', async () => {
    const { backupId: abandoned } = await vm.start({ rateLimitBytesPerSecond: 4 * MIB })
    const { backupId: running } = await other.start({ rateLimitBytesPerSecond: MIB / 2 })
    await vm.reached(abandoned, 4 * MIB)
    await other.reached(running, MIB / 2)
    await holdfast.kill('mover')
    await terminate(vmChainWorkflowId(vm.vmContextId))
    const unknown = `${vm.folderOf(backupIdFor(vm.vmName, new Date(), 'abcdef'))}.partial`
    await mkdir(unknown)
    // As after the catalog was restored from an older copy: the row explains nothing, only Temporal knows.
    await setStatus(running, 'failed')
    await holdfast.start('mover')

    await expect.poll(async () => (await reconcile(), (await rowOf(abandoned)).status), patiently).toBe('failed')
    expect(existsSync(`${vm.folderOf(abandoned)}.partial`)).toBe(false)
    await expect.poll(async () => (await reconcile(), existsSync(unknown)), patiently).toBe(false)
    expect(existsSync(`${other.folderOf(running)}.partial`), 'the folder of the running backup').toBe(true)
    await setStatus(running, 'running')
    expect(await other.ended(running)).toMatchObject({ status: 'completed' })
    expect(existsSync(vm.folderOf(published))).toBe(true)
  })

  test('that was published before its workflow was terminated is completed', async () => {
    const { backupId } = await other.start()
    const hold = await holdRow(backupId)
    try {
      await expect.poll(() => existsSync(other.folderOf(backupId)), patiently).toBe(true)
      expect(await rowOf(backupId)).toMatchObject({ status: 'running' })
      // With the statement that waits for the row: nobody but reconcile can complete it now.
      await holdfast.kill('mover')
      await terminate(vmChainWorkflowId(other.vmContextId))
    } finally {
      await hold.release()
    }
    await holdfast.start('mover')
    await expect.poll(async () => (await reconcile(), (await rowOf(backupId)).status), patiently).toBe('completed')
    expect(await rowOf(backupId)).toMatchObject({ processed_bytes: 8 * MIB, error_message: null })
    expect(await other.verify(backupId)).toMatchObject({ verification_status: 'passed' })
    expect(await other.backUp({ backupType: 'incremental' })).toMatchObject({ parent_backup_id: backupId })
  })
})

describe('a deletion in the middle', () => {
  test('that had not touched the files is taken back, unless it was begun again meanwhile', async () => {
    const { id: backupId } = await vm.backUp()
    const mark = { backupId, ownerWorkflowId: vmChainWorkflowId(vm.vmContextId) }
    await holdfast.stop('mover')
    void failureOf(holdfast.operations.deleteBackup(vm.vmContextId, backupId))
    await expect.poll(() => marksOf(backupId), patiently).toHaveLength(1)
    await terminate(mark.ownerWorkflowId)

    const finding = await startReconcile()
    await expect.poll(() => activitiesOf(finding), patiently).toContain('settleAbandoned')
    await markForDeletion(holdfast.catalog, mark)
    await holdfast.start('mover')
    await resultOf(finding)
    expect(await marksOf(backupId), 'the mark that was set anew').toHaveLength(1)

    await reconcile()
    expect(await marksOf(backupId)).toEqual([])
    expect(await vm.verify(backupId)).toMatchObject({ status: 'completed', verification_status: 'passed' })
  })

  test('that had removed the files is finished', async () => {
    await holdfast.stop('mover')
    void failureOf(holdfast.operations.deleteBackup(vm.vmContextId, published))
    const chain = vmChainWorkflowId(vm.vmContextId)
    await expect.poll(() => marksOf(published), patiently).toHaveLength(1)
    await expect.poll(() => activitiesOf(chain), patiently).toContain('deleteBackupFiles')
    // Without the control worker nobody records what the mover does.
    await holdfast.kill('control')
    await holdfast.start('mover')
    await expect.poll(() => existsSync(vm.folderOf(published)), patiently).toBe(false)
    await terminate(chain)
    expect(await rowOf(published)).toMatchObject({ status: 'completed' })
    await holdfast.start('control')
    const find = () => holdfast.catalog.selectFrom('backup_jobs').select('id').where('id', '=', published).execute()
    await expect.poll(find, patiently).toEqual([])
    expect(await marksOf(published)).toEqual([])
  })
})

const patiently = { timeout: 60_000, interval: 200 }

interface HangingRestore {
  id: string
  targetPath: string
}

/** Starts a restore and stops the program that serves the backup to it, so that it is in the middle for as long as a test needs. */
async function startHangingRestore(id: string): Promise<HangingRestore> {
  const targetPath = join(holdfast.home, `${id}.raw`)
  const frozen = freezeServerOf(published)
  await holdfast.operations.restoreDisk({ restoreId: id, backupId: published, diskIndex: 0, targetPath, targetFormat: 'raw' })
  await frozen
  await expect.poll(() => existsSync(`${targetPath}.partial.journal`), patiently).toBe(true)
  expect(existsSync(`${targetPath}.partial`)).toBe(true)
  expect(await restoreRow(id)).toMatchObject({ status: 'running' })
  expect(await pins()).toMatchObject([{ owner_workflow_id: restoreWorkflowId(id) }])
  return { id, targetPath }
}

/** The mover stands still whenever we look, so that on a busy machine, too, it is not done before we see the program. */
async function freezeServerOf(backupId: string): Promise<void> {
  const mover = holdfast.pid('mover')
  for (const deadline = Date.now() + 60_000; Date.now() < deadline;) {
    process.kill(mover, 'SIGSTOP')
    try {
      for (const pid of await processesNaming(backupId)) {
        const program = (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')).trim()
        if (program !== 'qemu-nbd') continue
        process.kill(pid, 'SIGSTOP')
        return
      }
    } finally {
      process.kill(mover, 'SIGCONT')
    }
    await delay(20)
  }
  throw new Error(`Nobody served ${backupId} within a minute.`)
}

async function expectNothingLeft({ targetPath }: HangingRestore): Promise<void> {
  const names = await readdir(dirname(targetPath))
  expect(names.filter((name) => join(holdfast.home, name).startsWith(targetPath))).toEqual([])
  expect(await processesNaming(published), 'processes').toEqual([])
  const run = join(holdfast.home, 'run', `mover-${holdfast.pid('mover')}`)
  expect(existsSync(run) ? await readdir(run) : [], 'sockets').toEqual([])
  expect(await pins()).toEqual([])
}

/** Locks the backup's row against everybody who wants to change it. */
async function holdRow(backupId: string): Promise<{ release(): Promise<void> }> {
  const transaction = await holdfast.catalog.startTransaction().execute()
  await transaction.selectFrom('backup_jobs').select('id').where('id', '=', backupId).forUpdate().execute()
  return {
    async release() {
      await transaction.rollback().execute()
    },
  }
}

let reconciles = 0

/** As the schedule does it; resolves with the workflow's id. */
async function startReconcile(): Promise<string> {
  const workflowId = `reconcile-test-${++reconciles}`
  const args = [{ heartbeatTimeoutMs: HEARTBEAT_TIMEOUT_MS }]
  await holdfast.client.workflow.start('reconcile', { workflowId, taskQueue: CONTROL_QUEUE, args })
  return workflowId
}

async function reconcile(): Promise<Repair[]> {
  return holdfast.client.workflow.getHandle<() => Promise<Repair[]>>(await startReconcile()).result()
}

async function resultOf(workflowId: string): Promise<unknown> {
  return holdfast.client.workflow.getHandle(workflowId).result()
}

/** Names of the steps that a workflow has asked for. */
async function activitiesOf(workflowId: string): Promise<string[]> {
  const { events } = await holdfast.client.workflow.getHandle(workflowId).fetchHistory()
  return (events ?? []).flatMap((event) => event.activityTaskScheduledEventAttributes?.activityType?.name ?? [])
}

async function terminate(workflowId: string): Promise<void> {
  await holdfast.client.workflow.getHandle(workflowId).terminate('test')
}

async function rowOf(backupId: string) {
  return holdfast.catalog.selectFrom('backup_jobs').selectAll().where('id', '=', backupId).executeTakeFirstOrThrow()
}

async function setStatus(backupId: string, status: 'running' | 'failed'): Promise<void> {
  await holdfast.catalog.updateTable('backup_jobs').set({ status }).where('id', '=', backupId).execute()
}

async function restoreRow(restoreId: string) {
  return holdfast.catalog.selectFrom('restore_jobs').selectAll().where('id', '=', restoreId).executeTakeFirst()
}

async function pins() {
  return holdfast.catalog.selectFrom('backup_pins').selectAll().execute()
}

async function marksOf(backupId: string) {
  return holdfast.catalog.selectFrom('backup_pins').selectAll().where('backup_id', '=', backupId).execute()
}
