import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../domain/errors.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertBackup, insertBackupDisk, insertRepository, insertVm } from '../../test/catalog-rows.ts'

interface RestoreList {
  restores: { id: string }[]
  total_count: number
  next_cursor: string | null
}

let api: TestApi
const at = (hour: number) => new Date(Date.UTC(2026, 1, 1, hour))

beforeAll(async () => {
  api = await createTestApi()
  const { catalog } = api
  await insertVm(catalog, 'ctx-web', 'web')
  await insertRepository(catalog, 'repo-1', 'Primary')
  const web = { vm_context_id: 'ctx-web', vm_name: 'web', repository_id: 'repo-1' }
  await insertBackup(catalog, { ...web, id: 'backup-1' })
  await insertBackupDisk(catalog, 'backup-1', 0)
  await insertBackup(catalog, { ...web, id: 'backup-2', status: 'running', completed_at: null })
  await insertRestore('restore-1', { status: 'completed', created_at: at(1), processed_bytes: 1000, completed_at: at(2) })
  await insertRestore('restore-2', {
    status: 'running',
    created_at: at(2),
    processed_bytes: 250,
    rate_bytes_per_second: 50,
    resumed_at_bytes: 100,
  })
  await insertRestore('restore-3', {
    status: 'failed',
    created_at: at(3),
    error_code: 'BACKUP_CORRUPT',
    error_message: 'block 7 differs',
  })
})
afterAll(() => api?.drop())
beforeEach(() => api.operations.reset())

async function insertRestore(id: string, row: object) {
  await api.catalog
    .insertInto('restore_jobs')
    .values({
      id,
      backup_id: 'backup-1',
      vm_name: 'web',
      disk_index: 0,
      target_path: `/restored/${id}.raw`,
      target_format: 'raw',
      total_bytes: 1000,
      workflow_id: `restore:${id}`,
      error_code: null,
      error_message: null,
      started_at: null,
      completed_at: null,
      ...row,
    })
    .execute()
}

describe('starting', () => {
  const request = { disk_index: 0, target_path: '/restored/disk.raw', format: 'qcow2' }

  test('asks for it under a new id', async () => {
    const { status, body } = await api.call('POST', '/backups/backup-1/restore', { body: request, as: 'admin' })
    expect(status).toBe(202)
    expect(body).toEqual({
      success: true,
      restore_id: expect.stringMatching(/^restore-[0-9a-z]{26}$/),
      backup_id: 'backup-1',
      disk_index: 0,
      target_path: '/restored/disk.raw',
      format: 'qcow2',
      status: 'started',
      created_at: '2026-03-01T12:00:00.000Z',
      message: 'Restore started.',
    })
    expect(api.operations.calls).toEqual([
      {
        verb: 'restoreDisk',
        args: [
          {
            restoreId: body['restore_id'],
            backupId: 'backup-1',
            diskIndex: 0,
            targetPath: '/restored/disk.raw',
            targetFormat: 'qcow2',
          },
        ],
      },
    ])
  })

  test('raw when no format is asked for', async () => {
    const { body } = await api.call('POST', '/backups/backup-1/restore', { body: { disk_index: 0, target_path: '/x/y' } })
    expect(body['format']).toBe('raw')
  })

  test.each([
    'relative.raw',
    '/',
    '/a/../b',
    '/a/./b',
    '/a//b',
    '/a/',
    '/a\0b',
    '/a\nb',
    '/srv/repo-1',
    '/srv/repo-1/vms/web/disk.raw',
    '/srv/repo-1/x',
  ])('target %j: RESTORE_TARGET_INVALID', async (target_path) => {
    const { status, body } = await api.call('POST', '/backups/backup-1/restore', { body: { ...request, target_path } })
    expect([status, body.error_code]).toEqual([400, 'RESTORE_TARGET_INVALID'])
    expect(api.operations.calls).toEqual([])
  })

  test('a folder that only begins like a repository is outside it', async () => {
    const body = { ...request, target_path: '/srv/repo-1-restored/disk.raw' }
    expect((await api.call('POST', '/backups/backup-1/restore', { body })).status).toBe(202)
  })

  test.each([
    ['no disk', { ...request, disk_index: undefined }],
    ['a negative disk', { ...request, disk_index: -1 }],
    ['half a disk', { ...request, disk_index: 0.5 }],
    ['a disk in words', { ...request, disk_index: '0' }],
    ['a target that is a list', { ...request, target_path: ['/x'] }],
    ['an endless target', { ...request, target_path: `/${'x'.repeat(5000)}` }],
    ['another format', { ...request, format: 'vmdk' }],
    ['an unknown field', { ...request, overwrite: true }],
  ])('refuses %s: INVALID_REQUEST', async (_what, body) => {
    const answer = await api.call('POST', '/backups/backup-1/restore', { body })
    expect([answer.status, answer.body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    expect(api.operations.calls).toEqual([])
  })

  test('unknown backup, running backup, missing disk', async () => {
    const codeOf = async (path: string, body: object) => {
      const answer = await api.call('POST', path, { body })
      return [answer.status, answer.body.error_code]
    }
    expect(await codeOf('/backups/backup-0/restore', request)).toEqual([404, 'BACKUP_NOT_FOUND'])
    expect(await codeOf('/backups/backup-2/restore', request)).toEqual([409, 'BACKUP_NOT_COMPLETED'])
    expect(await codeOf('/backups/backup-1/restore', { ...request, disk_index: 1 })).toEqual([404, 'DISK_NOT_FOUND'])
    expect(api.operations.calls).toEqual([])
  })

  test('a file that is there already: RESTORE_TARGET_EXISTS, as the mover says', async () => {
    api.operations.answer({
      restoreDisk: async () => {
        throw new HoldfastError('RESTORE_TARGET_EXISTS', 'There is a file.')
      },
    })
    const { status, body } = await api.call('POST', '/backups/backup-1/restore', { body: request })
    expect([status, body.error_code]).toEqual([409, 'RESTORE_TARGET_EXISTS'])
  })
})

describe('looking', () => {
  const idsOf = (body: RestoreList) => body.restores.map(({ id }) => id)

  test('lists them newest first, in pages, filtered', async () => {
    const all = await api.call<RestoreList>('GET', '/restores')
    expect([idsOf(all.body), all.body.total_count]).toEqual([['restore-3', 'restore-2', 'restore-1'], 3])
    const first = await api.call<RestoreList>('GET', '/restores?limit=2')
    const second = await api.call<RestoreList>('GET', `/restores?limit=2&cursor=${first.body.next_cursor}`)
    expect([...idsOf(first.body), ...idsOf(second.body)]).toEqual(idsOf(all.body))
    const some = await api.call<RestoreList>('GET', '/restores?status=running&backup_id=backup-1&vm_name=web')
    expect(idsOf(some.body)).toEqual(['restore-2'])
    expect(idsOf((await api.call<RestoreList>('GET', '/restores?vm_name=db')).body)).toEqual([])
  })

  test('one, running, with rate, ETA and where it resumed', async () => {
    const { body } = await api.call('GET', '/restores/restore-2')
    const expected = {
      restore_id: 'restore-2',
      status: 'running',
      progress_percent: 25,
      rate_bytes_per_second: 50,
      eta_seconds: 15,
      resumed_at_bytes: 100,
    }
    expect(body).toMatchObject({ success: true, ...expected, restore: expected })
  })

  test('one that failed says why', async () => {
    const { body } = await api.call('GET', '/restores/restore-3')
    expect(body).toMatchObject({ status: 'failed', error_code: 'BACKUP_CORRUPT', error_message: 'block 7 differs' })
  })

  test('unknown: RESTORE_NOT_FOUND', async () => {
    const { status, body } = await api.call('GET', '/restores/restore-0')
    expect([status, body.error_code]).toEqual([404, 'RESTORE_NOT_FOUND'])
  })
})

describe('cancelling', () => {
  test('a running one', async () => {
    const { status, body } = await api.call('POST', '/restores/restore-2/cancel', { as: 'operator' })
    expect([status, body]).toMatchObject([202, { restore_id: 'restore-2', status: 'cancelling' }])
    expect(api.operations.calls).toEqual([{ verb: 'cancelRestore', args: ['restore-2'] }])
  })

  test('one that has ended, or never was', async () => {
    const ended = await api.call('POST', '/restores/restore-1/cancel')
    expect([ended.status, ended.body.error_code]).toEqual([409, 'RESTORE_NOT_RUNNING'])
    const unknown = await api.call('POST', '/restores/restore-0/cancel')
    expect([unknown.status, unknown.body.error_code]).toEqual([404, 'RESTORE_NOT_FOUND'])
    expect(api.operations.calls).toEqual([])
  })
})
