/** A VM's backups from the first full to the last deletion, through real workers, servers and QEMU. */
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createScenario, MIB } from '../test/backup-scenario.ts'
import type { Scenario } from '../test/backup-scenario.ts'
import { failureOf } from '../test/failure.ts'
import { noise } from '../test/disk-backups.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { requireTool } from '../test/requires.ts'
import { runTool } from '../tools/run-tool.ts'

requireTool('qemu-nbd')

let holdfast: HoldfastProcesses
let vm: Scenario

beforeAll(async () => {
  holdfast = await createHoldfastProcesses()
  vm = await createScenario(holdfast, [8 * MIB, 4 * MIB])
})

afterAll(async () => {
  await holdfast?.close()
})

describe('a chain of backups', () => {
  let fullId: string
  let incrementId: string

  test('the first incremental asked for is a full, and says why', async () => {
    const admission = await vm.start({ backupType: 'incremental' })
    expect(admission).toMatchObject({ backupType: 'full', fullReason: 'first_backup', parentBackupId: null, decided: true })
    expect(admission.estimatedSizeBytes).toBeGreaterThan(12 * MIB)
    const row = await vm.ended(admission.backupId)
    expect(row).toMatchObject({
      status: 'completed',
      error_message: null,
      backup_type: 'full',
      full_reason: 'first_backup',
      total_bytes: 12 * MIB,
      processed_bytes: 12 * MIB,
      bytes_transferred: 12 * MIB,
    })
    expect(row.size_bytes).toBeGreaterThan(12 * MIB)
    fullId = row.id
    await expectSameAsImages(fullId)
  })

  test('an incremental holds what changed, and the chain rows follow it', async () => {
    await change(vm.images[0]!, 3 * MIB, noise(MIB, 99))
    const row = await vm.backUp({ backupType: 'incremental' })
    expect(row).toMatchObject({ status: 'completed', backup_type: 'incremental', parent_backup_id: fullId, full_reason: null })
    expect(row.bytes_transferred).toBe(MIB)
    incrementId = row.id
    await expectSameAsImages(incrementId)
    expect(await chains()).toEqual([
      { disk_id: 0, full_backup_id: fullId, latest_backup_id: incrementId, total_backups: 2 },
      { disk_id: 1, full_backup_id: fullId, latest_backup_id: incrementId, total_backups: 2 },
    ])
  })

  test('both read back as they were first read', async () => {
    for (const backupId of [fullId, incrementId]) {
      expect(await vm.verify(backupId)).toMatchObject({ verification_status: 'passed' })
    }
    expect(await holdfast.catalog.selectFrom('backup_pins').selectAll().execute()).toEqual([])
  })

  test('a disk of an old backup is restored to a new file, and never over an existing one', async () => {
    const targetPath = join(holdfast.home, 'restored.raw')
    const request = { backupId: fullId, diskIndex: 1, targetPath, targetFormat: 'raw' as const }
    await holdfast.operations.restoreDisk({ restoreId: 'restore-a', ...request })
    await holdfast.client.workflow.getHandle('restore:restore-a').result()
    expect(await restoreRow('restore-a')).toMatchObject({ status: 'completed', processed_bytes: 4 * MIB })
    await runTool('cmp', [targetPath, vm.images[1]!], { timeoutMs: 10_000 })

    const again = await failureOf(holdfast.operations.restoreDisk({ restoreId: 'restore-b', ...request }))
    expect(again.code).toBe('RESTORE_TARGET_EXISTS')
    const inside = { ...request, targetPath: join(vm.repositoryPath, 'disk.raw') }
    expect((await failureOf(holdfast.operations.restoreDisk({ restoreId: 'restore-c', ...inside }))).code).toBe(
      'RESTORE_TARGET_INVALID',
    )
    expect(await restoreRow('restore-b')).toBeUndefined()
    expect(await holdfast.catalog.selectFrom('backup_pins').selectAll().execute()).toEqual([])
  })

  test('a backup that others need is not deleted, and they are named', async () => {
    const refusal = await failureOf(holdfast.operations.deleteBackup(vm.vmContextId, fullId))
    expect(refusal).toMatchObject({ code: 'BACKUP_HAS_DEPENDENTS', details: { backup_id: fullId, dependents: [incrementId] } })
    expect(await vm.verify(fullId)).toMatchObject({ status: 'completed', verification_status: 'passed' })
  })

  test('a backup in use is not deleted', async () => {
    const pin = { backup_id: incrementId, owner_workflow_id: 'restore:somebody', reason: 'restore' }
    await holdfast.catalog.insertInto('backup_pins').values(pin).execute()
    const refusal = await failureOf(holdfast.operations.deleteBackup(vm.vmContextId, incrementId))
    expect(refusal).toMatchObject({ code: 'BACKUP_PINNED', details: { pinned_by: ['restore:somebody'] } })
    await holdfast.catalog.deleteFrom('backup_pins').execute()
  })

  test('one flipped byte is found and named, and the next incremental is a full', async () => {
    const image = join(vm.folderOf(incrementId), 'disk-0.qcow2')
    await flipByteOf(image, noise(MIB, 99).subarray(4096, 4160))
    const row = await vm.verify(incrementId)
    expect(row.verification_status).toBe('failed')
    for (const part of [vm.vmName, incrementId, 'disk 0', 'offset 3145728']) expect(row.verification_message).toContain(part)
    const next = await vm.backUp({ backupType: 'incremental' })
    expect(next).toMatchObject({ status: 'completed', backup_type: 'full', full_reason: 'parent_failed_verification' })
    expect(next.full_reason_detail).toContain(incrementId)
  })

  test('a parent whose files are gone gives a full, with the reason', async () => {
    const newest = await vm.backUp({ backupType: 'incremental' })
    expect(newest.backup_type).toBe('incremental')
    await runTool('rm', [join(vm.folderOf(newest.id), 'disk-1.qcow2')], { timeoutMs: 10_000 })
    const admission = await vm.start({ backupType: 'incremental' })
    expect(admission).toMatchObject({ backupType: 'full', fullReason: 'parent_missing' })
    expect(admission.fullReasonDetail).toContain('disk-1.qcow2')
    await vm.ended(admission.backupId)
  })

  test('who sees a backup completed may start the next one at once', async () => {
    const { backupId } = await vm.start()
    const status = () => holdfast.catalog.selectFrom('backup_jobs').select('status').where('id', '=', backupId).executeTakeFirst()
    await expect.poll(status, { timeout: 60_000, interval: 5 }).toEqual({ status: 'completed' })
    expect(await vm.backUp({ backupType: 'incremental' })).toMatchObject({ status: 'completed', parent_backup_id: backupId })
  })

  test('deleted newest first, nothing is left', async () => {
    await holdfast.operations.deleteBackup(vm.vmContextId, incrementId)
    await holdfast.operations.deleteBackup(vm.vmContextId, fullId)
    const left = await holdfast.catalog.selectFrom('backup_jobs').select('id').where('id', 'in', [fullId, incrementId]).execute()
    expect(left).toEqual([])
    const folders = await readdir(join(vm.folderOf('x'), '..'))
    expect(folders.filter((name) => name.includes(fullId) || name.includes(incrementId))).toEqual([])
    expect((await chains()).map((chain) => chain.full_backup_id)).not.toContain(fullId)
    expect((await failureOf(holdfast.operations.deleteBackup(vm.vmContextId, fullId))).code).toBe('BACKUP_NOT_FOUND')
  })
})

async function expectSameAsImages(backupId: string): Promise<void> {
  for (const [index, image] of vm.images.entries()) {
    const backup = join(vm.folderOf(backupId), `disk-${index}.qcow2`)
    await runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', image, backup], { timeoutMs: 30_000 })
  }
}

async function chains() {
  return holdfast.catalog
    .selectFrom('backup_chains')
    .select(['disk_id', 'full_backup_id', 'latest_backup_id', 'total_backups'])
    .orderBy('disk_id')
    .execute()
}

async function restoreRow(restoreId: string) {
  return holdfast.catalog.selectFrom('restore_jobs').selectAll().where('id', '=', restoreId).executeTakeFirst()
}

async function change(path: string, offset: number, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+')
  await file.write(bytes, 0, bytes.length, offset)
  await file.close()
}

/** Turns one bit of the place in a file where these bytes stand. */
async function flipByteOf(path: string, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const at = (await file.readFile()).indexOf(bytes)
    expect(at).toBeGreaterThan(0)
    await file.write(Buffer.from([bytes[0]! ^ 1]), 0, 1, at)
  } finally {
    await file.close()
  }
}
