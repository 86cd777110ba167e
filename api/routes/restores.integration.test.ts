import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { recordRestoreProgress } from '../../db/queries/disk-progress.ts'
import { endRestore } from '../../db/queries/restore-records.ts'
import { insertVmRestore, noteDiskBegins, noteRestoredVm } from '../../db/queries/vm-restore-records.ts'
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

describe('starting that of a whole VM', () => {
  const asNew = { target: 'libvirt', source_id: 'source-1', vm_name: 'web <&> 2', disk_folder: '/restored' }

  beforeAll(async () => {
    const { catalog } = api
    const config = JSON.stringify({ uri: 'qemu:///system' })
    await catalog
      .insertInto('sources')
      .values({ id: 'source-1', name: 'lab', source_type: 'libvirt', config, host_id: 'local' })
      .execute()
    await catalog
      .insertInto('vm_contexts')
      .values({
        context_id: 'ctx-live',
        vm_name: ' Live "1"',
        source_type: 'libvirt',
        config: '{}',
        host_id: 'local',
        source_id: 'source-1',
      })
      .execute()
    const live = { vm_context_id: 'ctx-live', vm_name: 'live', repository_id: 'repo-1' }
    await insertBackup(catalog, { ...live, id: 'backup-live' })
    for (const disk of [0, 1]) await insertBackupDisk(catalog, 'backup-live', disk)
  })

  const start = (body: object, as: 'admin' | 'operator' = 'admin') =>
    api.call('POST', '/backups/backup-live/restore', { body, as })

  test('as a new one: disconnected, not started and with all disks, unless told otherwise', async () => {
    const { status, body } = await start(asNew)
    expect([status, body]).toEqual([
      202,
      {
        success: true,
        restore_id: expect.stringMatching(/^restore-/),
        backup_id: 'backup-live',
        target: 'libvirt',
        source_id: 'source-1',
        vm_name: 'web <&> 2',
        status: 'started',
        created_at: '2026-03-01T12:00:00.000Z',
        message: 'Restore started.',
      },
    ])
    await start({ ...asNew, disks: [1], connect_network: true, start: true })
    const target = { type: 'libvirt', sourceId: 'source-1', vmName: 'web <&> 2', diskFolder: '/restored' }
    expect(api.operations.calls.map(({ args }) => args[0])).toMatchObject([
      { diskIndexes: [0, 1], target: { ...target, connectNetwork: false, start: false } },
      { diskIndexes: [1], target: { ...target, connectNetwork: true, start: true } },
    ])
  })

  test('over the original, when its exact name confirms it', async () => {
    const { status, body } = await start({ target: 'original', confirm: ' Live "1"' })
    expect([status, body]).toMatchObject([202, { target: 'original', vm_name: ' Live "1"' }])
    const target = { type: 'original', sourceId: 'source-1', vmName: ' Live "1"', vmContextId: 'ctx-live' }
    expect(api.operations.calls.map(({ args }) => args[0])).toMatchObject([{ diskIndexes: [0, 1], target }])
  })

  test.each([
    ['no confirmation', { target: 'original' }, 400, 'RESTORE_NOT_CONFIRMED'],
    ['an empty one', { target: 'original', confirm: '' }, 400, 'RESTORE_NOT_CONFIRMED'],
    ['nearly the name', { target: 'original', confirm: 'Live "1"' }, 400, 'RESTORE_NOT_CONFIRMED'],
    ['another case', { target: 'original', confirm: ' live "1"' }, 400, 'RESTORE_NOT_CONFIRMED'],
    ['a confirmation of no text', { target: 'original', confirm: true }, 400, 'INVALID_REQUEST'],
    ['fields of the other kind', { ...asNew, confirm: 'x' }, 400, 'INVALID_REQUEST'],
    ['fields of a disk', { ...asNew, disk_index: 0, target_path: '/x/y' }, 400, 'INVALID_REQUEST'],
    ['a name with a slash', { ...asNew, vm_name: 'a/b' }, 400, 'INVALID_REQUEST'],
    ['a name with a line break', { ...asNew, vm_name: 'a\nb' }, 400, 'INVALID_REQUEST'],
    ['a blank name', { ...asNew, vm_name: '  ' }, 400, 'INVALID_REQUEST'],
    ['a name of too many bytes', { ...asNew, vm_name: 'ü'.repeat(101) }, 400, 'INVALID_REQUEST'],
    ['a disk twice', { ...asNew, disks: [0, 0] }, 400, 'INVALID_REQUEST'],
    ['no disk at all', { ...asNew, disks: [] }, 400, 'INVALID_REQUEST'],
    ['a disk that is not there', { ...asNew, disks: [0, 7] }, 404, 'DISK_NOT_FOUND'],
    ['a relative folder', { ...asNew, disk_folder: 'restored' }, 400, 'RESTORE_TARGET_INVALID'],
    ['a folder in a repository', { ...asNew, disk_folder: '/srv/repo-1/vms' }, 400, 'RESTORE_TARGET_INVALID'],
    ['an unknown source', { ...asNew, source_id: 'source-0' }, 404, 'SOURCE_CONNECTION_NOT_FOUND'],
  ])('refuses %s', async (_what, body, status, code) => {
    const answer = await start(body)
    expect([answer.status, answer.body.error_code]).toEqual([status, code])
    expect(api.operations.calls).toEqual([])
  })

  test('over a VM that is no libvirt domain: RESTORE_TARGET_INVALID', async () => {
    const body = { target: 'original', confirm: 'web' }
    const answer = await api.call('POST', '/backups/backup-1/restore', { body })
    expect([answer.status, answer.body.error_code]).toEqual([400, 'RESTORE_TARGET_INVALID'])
  })

  test('is for admins', async () => {
    expect((await start(asNew, 'operator')).status).toBe(403)
    expect(api.operations.calls).toEqual([])
  })

  test('starts once under one key', async () => {
    const headers = { 'Idempotency-Key': 'vm-1' }
    const once = await api.call('POST', '/backups/backup-live/restore', { body: asNew, headers })
    const again = await api.call('POST', '/backups/backup-live/restore', { body: asNew, headers })
    expect(again.body).toEqual(once.body)
    expect(api.operations.calls).toHaveLength(1)
    const other = await api.call('POST', '/backups/backup-live/restore', { body: { ...asNew, start: true }, headers })
    expect(other.body.error_code).toBe('IDEMPOTENCY_CONFLICT')
  })

  test('is shown with each disk, and their sum', async () => {
    const target = {
      type: 'libvirt',
      sourceId: 'source-1',
      vmName: 'two',
      diskFolder: '/restored',
      connectNetwork: false,
      start: false,
    } as const
    const disk = { sizeBytes: 1000, format: 'qcow2' } as const
    await insertVmRestore(api.catalog, {
      restoreId: 'restore-vm',
      backupId: 'backup-live',
      vmName: 'live',
      target,
      workflowId: 'restore:restore-vm',
      disks: [0, 1].map((index) => ({
        ...disk,
        index,
        path: `/restored/two-${index}`,
        writePath: `/restored/two-${index}.holdfast-restore-vm`,
      })),
    })
    await noteDiskBegins(api.catalog, 'restore-vm/disk-0')
    await recordRestoreProgress(api.catalog, {
      restoreId: 'restore-vm/disk-0',
      processedBytes: 500,
      totalBytes: 1000,
      ratePerSecond: 50,
      resumedAtBytes: 0,
    })
    const expected = {
      restore_id: 'restore-vm',
      target: 'libvirt',
      target_vm_name: 'two',
      status: 'running',
      total_bytes: 2000,
      processed_bytes: 500,
      progress_percent: 25,
      eta_seconds: 30,
      external_id: null,
      disks: [
        { disk_index: 0, target_path: '/restored/two-0', status: 'running', progress_percent: 50, eta_seconds: 10 },
        { disk_index: 1, target_path: '/restored/two-1', status: 'pending', progress_percent: 0 },
      ],
    }
    expect((await api.call('GET', '/restores/restore-vm')).body).toMatchObject({ ...expected, restore: expected })
    const { body } = await api.call<RestoreList>('GET', '/restores?backup_id=backup-live')
    expect(body).toMatchObject({ total_count: 1, restores: [expected] })
    expect((await api.call('GET', `/restores/${encodeURIComponent('restore-vm/disk-0')}`)).status).toBe(400)

    await noteRestoredVm(api.catalog, 'restore-vm', { externalId: 'uuid-1', warnings: ['no NVRAM'] })
    await endRestore(api.catalog, { restoreId: 'restore-vm', state: 'completed' })
    const done = { status: 'completed', progress_percent: 100, external_id: 'uuid-1', warnings: ['no NVRAM'] }
    expect((await api.call('GET', '/restores/restore-vm')).body).toMatchObject(done)
    await api.catalog.deleteFrom('restore_jobs').where('backup_id', '=', 'backup-live').execute()
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
