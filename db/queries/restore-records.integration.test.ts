import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestCatalog, type TestCatalog } from '../../test/catalog.ts'
import { failureOf } from '../../test/failure.ts'
import { endRestore, insertRestore, loadRestore, type NewRestore } from './restore-records.ts'

let database: TestCatalog

beforeAll(async () => {
  database = await createTestCatalog()
})
afterAll(() => database?.drop())

function restoreTo(targetPath: string, restoreId: string): NewRestore {
  return {
    restoreId,
    backupId: 'backup-a',
    vmName: 'web',
    diskIndex: 0,
    targetPath,
    targetFormat: 'raw',
    totalBytes: 1024,
    workflowId: `restore:${restoreId}`,
  }
}

test('one file is written by one restore at a time', async () => {
  const { catalog } = database
  await insertRestore(catalog, restoreTo('/srv/web.raw', 'first'))
  const refusal = await failureOf(insertRestore(catalog, restoreTo('/srv/web.raw', 'second')))
  expect(refusal).toMatchObject({ code: 'RESTORE_TARGET_EXISTS', details: { path: '/srv/web.raw' } })
  expect((await failureOf(loadRestore(catalog, 'second'))).code).toBe('RESTORE_NOT_FOUND')
  expect(await loadRestore(catalog, 'first')).toMatchObject({ workflow_id: 'restore:first', status: 'running' })

  await insertRestore(catalog, restoreTo('/srv/other.raw', 'elsewhere'))
  await endRestore(catalog, { restoreId: 'first', state: 'failed', code: 'INSUFFICIENT_STORAGE', message: 'full' })
  await insertRestore(catalog, restoreTo('/srv/web.raw', 'second'))
  expect(await loadRestore(catalog, 'second')).toMatchObject({ status: 'running' })
})

test('recording a restore twice changes nothing', async () => {
  const { catalog } = database
  await insertRestore(catalog, restoreTo('/srv/twice.raw', 'twice'))
  await endRestore(catalog, { restoreId: 'twice', state: 'completed' })
  await insertRestore(catalog, restoreTo('/srv/twice.raw', 'twice'))
  expect(await loadRestore(catalog, 'twice')).toMatchObject({ status: 'completed' })
})
