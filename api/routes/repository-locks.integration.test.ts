import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { HoldfastError } from '../../domain/errors.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertBackup, insertRepository, insertVm } from '../../test/catalog-rows.ts'

const until = new Date('2031-11-03T12:00:00.000Z')
let api: TestApi

beforeAll(async () => {
  api = await createTestApi()
  await insertVm(api.catalog, 'ctx-1')
  await insertRepository(api.catalog, 'repo-a', 'Alpha')
  const row = { id: 'backup-locked', vm_context_id: 'ctx-1', repository_id: 'repo-a', locked_until: until }
  await insertBackup(api.catalog, row)
})
afterAll(() => api?.drop())
beforeEach(() => api.operations.reset())

test('locks are looked at, and what was not as it should be is named', async () => {
  const broken = [{ backupId: 'backup-locked', missing: ['the folder is not locked'], relocked: true }]
  api.operations.answer({ attestLocks: async () => ({ checked: 3, broken }) })
  const { status, body } = await api.call('POST', '/repositories/repo-a/attest', { as: 'operator' })
  expect([status, body]).toEqual([
    200,
    {
      success: true,
      repository_id: 'repo-a',
      checked: 3,
      broken: [{ backup_id: 'backup-locked', missing: ['the folder is not locked'], relocked: true }],
    },
  ])
  expect(api.operations.calls).toEqual([{ verb: 'attestLocks', args: [{ repositoryId: 'repo-a', hostId: 'local' }] }])
})

test('a repository that cannot be looked at, or is none, is said', async () => {
  expect((await api.call('POST', '/repositories/repo-none/attest')).body.error_code).toBe('REPO_NOT_FOUND')
  const refuse = async () => {
    throw new HoldfastError('LOCK_FAILED', 'The locker does not answer.')
  }
  api.operations.answer({ attestLocks: refuse })
  const { status, body } = await api.call('POST', '/repositories/repo-a/attest')
  expect([status, body.error_code]).toEqual([502, 'LOCK_FAILED'])
})

test('a backup says until when it is locked, and its deletion is refused in the documented form', async () => {
  const shown = await api.call('GET', '/backups/backup-locked')
  expect(shown.body).toMatchObject({ locked_until: until.toISOString() })
  const refuse = async () => {
    const details = { backup_id: 'backup-locked', retention_expires_at: until.toISOString() }
    throw new HoldfastError('IMMUTABLE_RETENTION_ACTIVE', 'cannot delete backup: immutable retention period not expired', {
      details,
    })
  }
  api.operations.answer({ deleteBackup: refuse })
  const { status, body } = await api.call('DELETE', '/backups/backup-locked')
  expect([status, body]).toMatchObject([
    409,
    { success: false, error_code: 'IMMUTABLE_RETENTION_ACTIVE', retention_expires_at: '2031-11-03T12:00:00.000Z' },
  ])
})
