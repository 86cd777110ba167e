/**
 * Runs every workflow through its scenarios and looks at the histories: short, and without secrets. With `HOLDFAST_RECORD_HISTORIES=1`
 * they become the files that `workflows/replay.test.ts` replays.
 */
import { utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createScenario, MIB } from '../test/backup-scenario.ts'
import type { Scenario } from '../test/backup-scenario.ts'
import { failureOf } from '../test/failure.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { startNbdkit } from '../test/nbd-programs.ts'
import { eventCount, recordHistory } from '../test/recorded-histories.ts'
import { requireTool } from '../test/requires.ts'
import {
  backupDiskWorkflowId,
  registerVmWorkflowId,
  restoreWorkflowId,
  verifyWorkflowId,
  vmChainWorkflowId,
} from '../temporal/workflow-ids.ts'
import { runTool } from '../tools/run-tool.ts'

requireTool('qemu-nbd')
requireTool('nbdkit')

const slowly = { rateLimitBytesPerSecond: 2 * MIB }

let holdfast: HoldfastProcesses
let vm: Scenario
let chain: string

beforeAll(async () => {
  holdfast = await createHoldfastProcesses()
  vm = await createScenario(holdfast, [8 * MIB, 4 * MIB])
  chain = vmChainWorkflowId(vm.vmContextId)
})

afterAll(async () => {
  await holdfast?.close()
})

describe('histories', () => {
  let fullId: string
  let incrementId: string

  test('of registering', async () => {
    expect(vm.images).toHaveLength(2)
    await record('register-vm', registerVmWorkflowId(vm.vmContextId))
  })

  test('of a full and an incremental', async () => {
    const full = await vm.backUp()
    expect(full.status).toBe('completed')
    fullId = full.id
    await record('backup-full', chain)
    await record('backup-disk', backupDiskWorkflowId(chain, fullId, 0))
    await writeFile(vm.images[0]!, Buffer.alloc(MIB, 7), { flag: 'r+' })
    incrementId = (await vm.backUp({ backupType: 'incremental' })).id
    await record('backup-incremental', chain)
  })

  test('of a cancelled backup', async () => {
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, MIB)
    await holdfast.operations.cancelBackup(vm.vmContextId, backupId)
    expect((await vm.ended(backupId)).status).toBe('cancelled')
    await record('backup-cancelled', chain)
    await record('backup-disk-cancelled', backupDiskWorkflowId(chain, backupId, 0))
  })

  test('of a backup whose source changed once', async () => {
    const { backupId } = await vm.start(slowly)
    await vm.reached(backupId, MIB)
    await utimes(vm.images[0]!, new Date(), new Date())
    expect((await vm.ended(backupId)).status).toBe('completed')
    await record('backup-source-changed', chain)
  })

  test('of a refused backup', async () => {
    const server = await startNbdkit('pattern', 'size=64T')
    const contextId = `${vm.vmContextId}-huge`
    const disks = [{ key: 'huge', label: 'huge', format: 'raw', uri: `nbd+unix:///?socket=${server.endpoint.path}` }]
    const config = { disks }
    await holdfast.operations.registerVm({ contextId, vmName: 'huge', sourceType: 'disk-image', hostId: 'local', config })
    expect((await failureOf(vm.start({ vmContextId: contextId }))).code).toBe('INSUFFICIENT_STORAGE')
    await record('backup-refused', vmChainWorkflowId(contextId))
  })

  test('of verifications', async () => {
    expect((await vm.verify(fullId)).verification_status).toBe('passed')
    await record('verify-passed', verifyWorkflowId(fullId, vm.repositoryId))
    await runTool('truncate', ['--size=-65536', join(vm.folderOf(incrementId), 'disk-0.qcow2')], { timeoutMs: 10_000 })
    expect((await vm.verify(incrementId)).verification_status).toBe('failed')
    await record('verify-failed', verifyWorkflowId(incrementId, vm.repositoryId))
  })

  test('of restores', async () => {
    const targetPath = join(holdfast.home, 'restored.qcow2')
    const request = { restoreId: 'restore-history', backupId: fullId, diskIndex: 1, targetPath, targetFormat: 'qcow2' as const }
    await holdfast.operations.restoreDisk(request)
    await holdfast.client.workflow.getHandle(restoreWorkflowId('restore-history')).result()
    await record('restore', restoreWorkflowId('restore-history'))
    const refusal = await failureOf(holdfast.operations.restoreDisk({ ...request, restoreId: 'restore-refused' }))
    expect(refusal.code).toBe('RESTORE_TARGET_EXISTS')
    await record('restore-refused', restoreWorkflowId('restore-refused'))
  })

  test('of deletions', async () => {
    expect((await failureOf(holdfast.operations.deleteBackup(vm.vmContextId, fullId))).code).toBe('BACKUP_HAS_DEPENDENTS')
    await record('delete-refused', chain)
    await holdfast.operations.deleteBackup(vm.vmContextId, incrementId)
    await record('delete', chain)
  })

  test('of reconcile', async () => {
    const pin = { backup_id: fullId, owner_workflow_id: 'restore:gone', reason: 'restore' }
    await holdfast.catalog.insertInto('backup_pins').values(pin).execute()
    const { workflowId } = await holdfast.client.workflow.start('reconcile', {
      workflowId: 'reconcile-recorded',
      taskQueue: 'control',
      args: [{ heartbeatTimeoutMs: 3_000 }],
    })
    const repairs: { kind: string }[] = await holdfast.client.workflow.getHandle(workflowId).result()
    expect(repairs.map((repair) => repair.kind)).toContain('pin')
    await record('reconcile', workflowId)
  })

  test('a backup of four disks takes at most 200 events, its disks included', async () => {
    const four = await createScenario(holdfast, [MIB, MIB, MIB, MIB])
    const { id } = await four.backUp()
    const parent = vmChainWorkflowId(four.vmContextId)
    const ids = [parent, ...[0, 1, 2, 3].map((index) => backupDiskWorkflowId(parent, id, index))]
    const counts = await Promise.all(ids.map((workflowId) => eventCount(holdfast.client, { workflowId })))
    expect(
      counts.reduce((sum, count) => sum + count, 0),
      counts.join('+'),
    ).toBeLessThanOrEqual(200)
  })
})

async function record(name: string, workflowId: string): Promise<void> {
  await recordHistory(holdfast.client, name, { workflowId })
}
