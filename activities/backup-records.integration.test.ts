import { ApplicationFailure } from '@temporalio/common'
import { MockActivityEnvironment } from '@temporalio/testing'
import { expect, onTestFinished, test } from 'vitest'
import { createTestCatalog } from '../test/catalog.ts'
import { insertLibvirtVm, insertRepository, insertSource } from '../test/catalog-rows.ts'
import { createBackupRecordActivities } from './backup-records.ts'

test('a VM that has vanished is refused whoever asks, and the request is on record', async () => {
  const database = await createTestCatalog()
  onTestFinished(() => database.drop())
  const { catalog } = database
  await insertRepository(catalog, 'repo-1')
  await insertSource(catalog, 'source-a')
  await insertLibvirtVm(catalog, 'ctx-gone', 'source-a', { current_status: 'vanished' })
  const steps = createBackupRecordActivities({ catalog })
  const request = { backupId: 'backup-1', vmContextId: 'ctx-gone', repositoryId: 'repo-1', workflowId: 'vm-chain:ctx-gone' }
  const asked = { ...request, backupType: 'full', compression: 'zstd', rateLimitBytesPerSecond: null } as const
  const refusal: unknown = await new MockActivityEnvironment()
    .run(() => steps.recordBackup(asked))
    .catch((error: unknown) => error)
  expect(refusal).toBeInstanceOf(ApplicationFailure)
  expect(refusal).toMatchObject({ type: 'SOURCE_NOT_FOUND', nonRetryable: true })
  expect(await catalog.selectFrom('backup_jobs').select('status').executeTakeFirst()).toEqual({ status: 'pending' })
})
