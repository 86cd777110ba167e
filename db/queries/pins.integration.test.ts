/** Reading, deleting and building on a backup, at the same time and in every order. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { insertBackup, insertBackupDisk, insertRepository, insertVm } from '../../test/catalog-rows.ts'
import { failureOf } from '../../test/failure.ts'
import { endBackup } from './backup-records.ts'
import { recordDeletedBackup } from './deletion-records.ts'
import { recordDiskProgress } from './disk-progress.ts'
import { listDeletionMarks, listReaderPins, markForDeletion, pinForReading, removeObservedPin, removePin } from './pins.ts'
import { endRestore, insertRestore } from './restore-records.ts'
import { markDamaged, recordVerificationResult } from './verification-records.ts'

let database: TestCatalog

beforeAll(async () => {
  database = await createTestCatalog()
  await insertVm(database.catalog, 'vm')
  await insertRepository(database.catalog, 'repo')
})

afterAll(async () => {
  await database?.drop()
})

beforeEach(async () => {
  for (const table of ['backup_pins', 'backup_chains'] as const) await database.catalog.deleteFrom(table).execute()
  await database.catalog.updateTable('backup_jobs').set({ status: 'failed', parent_backup_id: null }).execute()
  await database.catalog.deleteFrom('backup_jobs').execute()
})

async function backup(id: string, parent: string | null = null, status: 'completed' | 'failed' | 'running' = 'completed') {
  await insertBackup(database.catalog, { id, vm_context_id: 'vm', repository_id: 'repo', parent_backup_id: parent, status })
  await insertBackupDisk(database.catalog, id)
}

const reader = { backupId: 'a', ownerWorkflowId: 'verify:a' }
const deleter = { backupId: 'a', ownerWorkflowId: 'vm-chain:vm' }

describe('a backup', () => {
  test('that is read is not deleted, until it is let go', async () => {
    await backup('a')
    await pinForReading(database.catalog, reader, 'verification')
    expect(await failureOf(markForDeletion(database.catalog, deleter))).toMatchObject({
      code: 'BACKUP_PINNED',
      details: { pinned_by: ['verify:a'] },
    })
    await removePin(database.catalog, reader)
    await markForDeletion(database.catalog, deleter)
  })

  test('that is being deleted is not read; the mark itself may be set twice', async () => {
    await backup('a')
    await markForDeletion(database.catalog, deleter)
    await markForDeletion(database.catalog, deleter)
    expect((await failureOf(pinForReading(database.catalog, reader, 'restore'))).code).toBe('BACKUP_NOT_FOUND')
  })

  test('is either read or deleted when both come at once', async () => {
    for (let round = 0; round < 10; round++) {
      const id = `race-${round}`
      await backup(id)
      const outcomes = await Promise.allSettled([
        pinForReading(database.catalog, { backupId: id, ownerWorkflowId: 'reader' }, 'restore'),
        markForDeletion(database.catalog, { backupId: id, ownerWorkflowId: 'deleter' }),
      ])
      expect(
        outcomes.filter((outcome) => outcome.status === 'fulfilled'),
        `round ${round}`,
      ).toHaveLength(1)
    }
  })

  test('that others need is not deleted; failed ones need nothing and lose their parent with it', async () => {
    await backup('a')
    await backup('b', 'a')
    await backup('c', 'b')
    await backup('d', 'a', 'failed')
    expect(await failureOf(markForDeletion(database.catalog, deleter))).toMatchObject({
      code: 'BACKUP_HAS_DEPENDENTS',
      details: { dependents: ['b', 'c'] },
    })
    await recordDeletedBackup(database.catalog, 'c')
    await recordDeletedBackup(database.catalog, 'b')
    await markForDeletion(database.catalog, deleter)
    await recordDeletedBackup(database.catalog, 'a')
    await recordDeletedBackup(database.catalog, 'a')
    const left = await database.catalog.selectFrom('backup_jobs').select(['id', 'parent_backup_id']).execute()
    expect(left).toEqual([{ id: 'd', parent_backup_id: null }])
    expect(await listDeletionMarks(database.catalog, 'a')).toEqual([])
  })

  test('that is at work or unfinished is neither deleted nor read', async () => {
    await backup('a', null, 'running')
    expect((await failureOf(markForDeletion(database.catalog, deleter))).code).toBe('VM_BUSY')
    expect((await failureOf(pinForReading(database.catalog, reader, 'restore'))).code).toBe('BACKUP_NOT_COMPLETED')
  })
})

test('a pin set anew is not the one that was seen before', async () => {
  await backup('a')
  await pinForReading(database.catalog, reader, 'verification')
  const [seen] = await listReaderPins(database.catalog)
  await new Promise((resolve) => setTimeout(resolve, 5))
  await pinForReading(database.catalog, reader, 'verification')
  expect(await removeObservedPin(database.catalog, seen!)).toBe(false)
  const [current] = await listReaderPins(database.catalog)
  expect(await removeObservedPin(database.catalog, current!)).toBe(true)
})

test('the pin of a restore goes only after the restore has ended', async () => {
  await backup('a')
  const restore = { restoreId: 'restore-1', ownerWorkflowId: 'restore:1' }
  await pinForReading(database.catalog, { backupId: 'a', ownerWorkflowId: restore.ownerWorkflowId }, 'restore')
  await pinForReading(database.catalog, reader, 'verification')
  await insertRestore(database.catalog, {
    restoreId: restore.restoreId,
    backupId: 'a',
    vmName: 'vm',
    diskIndex: 0,
    targetPath: '/restored.raw',
    targetFormat: 'raw',
    totalBytes: 1,
    workflowId: restore.ownerWorkflowId,
  })
  const owners = async () => (await listReaderPins(database.catalog)).map((pin) => pin.owner_workflow_id).toSorted()
  expect(await owners()).toEqual([reader.ownerWorkflowId])
  await endRestore(database.catalog, { restoreId: restore.restoreId, state: 'failed', code: 'INTERNAL', message: 'cut short' })
  expect(await owners()).toEqual([restore.ownerWorkflowId, reader.ownerWorkflowId])
})

test('late progress never brings an ended backup back to life', async () => {
  await backup('a', null, 'running')
  const report = {
    backupId: 'a',
    diskIndex: 0,
    processedBytes: 512,
    writtenBytes: 256,
    ratePerSecond: 9,
    resumedAtBytes: 0,
    attempt: 1,
  }
  await recordDiskProgress(database.catalog, [report])
  const job = () => database.catalog.selectFrom('backup_jobs').selectAll().where('id', '=', 'a').executeTakeFirstOrThrow()
  expect(await job()).toMatchObject({ status: 'running', processed_bytes: 512, bytes_transferred: 256 })
  await endBackup(database.catalog, { backupId: 'a', state: 'cancelled', code: 'CANCELLED', message: 'x' })
  await recordDiskProgress(database.catalog, [{ ...report, processedBytes: 1024 }])
  expect(await job()).toMatchObject({ status: 'cancelled', processed_bytes: 512 })
  const disks = await database.catalog.selectFrom('backup_disks').select(['status', 'processed_bytes']).execute()
  expect(disks).toEqual([{ status: 'cancelled', processed_bytes: 512 }])
  await endBackup(database.catalog, { backupId: 'a', state: 'failed', code: 'INTERNAL', message: 'y' })
  expect(await job()).toMatchObject({ status: 'cancelled', error_message: 'x' })
})

test('a failed verification stays, whatever later ones find', async () => {
  await backup('a')
  await backup('b', 'a')
  const job = (id: string) =>
    database.catalog.selectFrom('backup_jobs').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
  await recordVerificationResult(database.catalog, { backupId: 'b', status: 'failed', message: 'block 7' })
  await markDamaged(database.catalog, ['a'], 'found through b')
  await recordVerificationResult(database.catalog, { backupId: 'b', status: 'passed', message: 'All well.' })
  expect(await job('b')).toMatchObject({ verification_status: 'failed' })
  expect((await job('b')).verification_message).toContain('All well. An earlier verification failed')
  expect(await job('a')).toMatchObject({ verification_status: 'failed', verification_message: 'found through b' })
})
