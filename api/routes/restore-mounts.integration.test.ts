import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { insertRestoreMount, markUnmounting, recordMounted } from '../../db/queries/restore-mount-records.ts'
import { noteMountAccess } from '../../db/queries/restore-mounts.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { Volume } from '../../domain/restore-mount.ts'
import type { OpenMountRequest } from '../../temporal/operations.ts'
import { restoreMountId } from '../../temporal/restore-mount-ids.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { countRows, insertBackup, insertBackupDisk, insertRepository, insertVm } from '../../test/catalog-rows.ts'

interface MountList {
  mounts: { mount_id: string }[]
  count: number
  total_count: number
  next_cursor: string | null
}

let api: TestApi
let diskId: number
const mountId = restoreMountId('backup-1', 0)
const other = restoreMountId('backup-1', 1)
const volume = { fileSystem: 'ext4', label: '', uuid: '', sizeBytes: 1000, note: '' }
const volumes: Volume[] = [
  { ...volume, id: 'partition-1', state: 'readable', fileSystem: 'ntfs', label: 'System', uuid: '01D9' },
  { ...volume, id: 'partition-2', state: 'readable' },
  { ...volume, id: 'partition-3', state: 'encrypted', fileSystem: 'crypto_LUKS', note: 'its key is not here' },
]

beforeAll(async () => {
  api = await createTestApi()
  const { catalog } = api
  await insertVm(catalog, 'ctx-web', 'web')
  await insertRepository(catalog, 'repo-1', 'Primary')
  const web = { vm_context_id: 'ctx-web', vm_name: 'web', repository_id: 'repo-1' }
  await insertBackup(catalog, { ...web, id: 'backup-1' })
  for (const disk of [0, 1]) await insertBackupDisk(catalog, 'backup-1', disk)
  await insertBackup(catalog, { ...web, id: 'backup-2', status: 'running', completed_at: null })
  const disk = await catalog.selectFrom('backup_disks').select('id').where('disk_index', '=', 0).executeTakeFirstOrThrow()
  diskId = disk.id
})
afterAll(() => api?.drop())
beforeEach(async () => {
  api.operations.reset()
  await api.catalog.deleteFrom('restore_mounts').execute()
  await api.catalog.deleteFrom('audit_events').execute()
})

/** As the workflow does it: a row, and then what was opened. */
async function beginMount(id: string, diskIndex: number, startedAt = api.clock.now): Promise<void> {
  const lease = { startedAt: startedAt.getTime(), idleMs: 3_600_000, maximumMs: 86_400_000 }
  const names = { mountId: id, backupId: 'backup-1', diskIndex, hostId: 'local', workflowId: `restore-mount:${id}` }
  await insertRestoreMount(api.catalog, { ...names, ...lease })
}

async function finishMount(id: string): Promise<void> {
  const device = `/run/holdfast/mounts/${id}/disk`
  await recordMounted(api.catalog, id, { driver: 'user-mode-linux', mountPath: `/run/holdfast/mounts/${id}`, device, volumes })
}

const mounted = async (id: string, diskIndex: number, startedAt?: Date) => {
  await beginMount(id, diskIndex, startedAt)
  await finishMount(id)
}

const auditRows = () => api.catalog.selectFrom('audit_events').selectAll().orderBy('id').execute()

const shown = {
  mount_id: mountId,
  backup_id: 'backup-1',
  backup_disk_id: expect.any(Number),
  disk_index: 0,
  mount_path: `/run/holdfast/mounts/${mountId}`,
  nbd_device: `/run/holdfast/mounts/${mountId}/disk`,
  filesystem_type: 'ntfs, ext4',
  status: 'mounted',
  created_at: '2026-03-01T12:00:00.000Z',
  expires_at: '2026-03-01T13:00:00.000Z',
  remaining_seconds: 3600,
  last_access_at: '2026-03-01T12:00:00.000Z',
  vm_name: 'web',
  disk_label: 'disk-0',
  host_id: 'local',
  driver: 'user-mode-linux',
  volume_count: 2,
}

describe('mounting', () => {
  const request = { backup_id: 'backup-1', disk_index: 0 }
  const opens = () => api.operations.answer({ openMount: async ({ mountId: id, diskIndex }) => mounted(id, diskIndex) })

  test('opens the disk for as long as is configured, and answers with every documented field', async () => {
    opens()
    const { status, body } = await api.call('POST', '/restore/mount', { body: request, as: 'operator' })
    expect([status, body]).toEqual([200, { success: true, ...shown, backup_disk_id: diskId }])
    const asked: OpenMountRequest = {
      mountId,
      backupId: 'backup-1',
      diskIndex: 0,
      idleMs: 3_600_000,
      maximumMs: 86_400_000,
    }
    expect(api.operations.calls).toEqual([{ verb: 'openMount', args: [asked] }])
  })

  test('the first disk when none is named', async () => {
    opens()
    const { body } = await api.call('POST', '/restore/mount', { body: { backup_id: 'backup-1' } })
    expect(body).toMatchObject({ disk_index: 0, mount_id: mountId })
  })

  test('is in the audit trail before it is asked for', async () => {
    const seen: unknown[] = []
    api.operations.answer({
      openMount: async ({ mountId: id, diskIndex }) => {
        seen.push(...(await auditRows()))
        await mounted(id, diskIndex)
      },
    })
    await api.call('POST', '/restore/mount', { body: request, as: 'operator', headers: { 'X-Request-Id': 'open-1' } })
    expect(seen).toEqual([
      {
        id: expect.any(Number),
        at: api.clock.now,
        user_id: 'user-operator',
        username: 'operator',
        action: 'mount.open',
        subject_type: 'restore-mount',
        subject_id: mountId,
        details: { backup_id: 'backup-1', disk_index: 0 },
        request_id: 'open-1',
        remote_address: null,
      },
    ])
  })

  test('a key keeps the answer, and stands for one disk', async () => {
    opens()
    const headers = { 'Idempotency-Key': 'mount-1' }
    const once = await api.call('POST', '/restore/mount', { body: request, headers })
    const again = await api.call('POST', '/restore/mount', { body: { backup_id: 'backup-1' }, headers })
    expect(again.body).toEqual(once.body)
    expect(api.operations.calls).toHaveLength(1)
    const conflict = await api.call('POST', '/restore/mount', { body: { ...request, disk_index: 1 }, headers })
    expect([conflict.status, conflict.body.error_code]).toEqual([409, 'IDEMPOTENCY_CONFLICT'])
  })

  test('a new key for a disk that is mounted asks for it all the same, and is written down', async () => {
    await mounted(mountId, 0)
    await api.call('POST', '/restore/mount', { body: request, headers: { 'Idempotency-Key': 'mount-2' } })
    expect(api.operations.calls).toHaveLength(1)
    expect(await auditRows()).toHaveLength(1)
  })

  test.each([
    ['no backup', { disk_index: 0 }, 400, 'INVALID_REQUEST'],
    ['a backup that is no id', { backup_id: '../x' }, 400, 'INVALID_REQUEST'],
    ['a negative disk', { ...request, disk_index: -1 }, 400, 'INVALID_REQUEST'],
    ['a disk in words', { ...request, disk_index: '0' }, 400, 'INVALID_REQUEST'],
    ['half a disk', { ...request, disk_index: 0.5 }, 400, 'INVALID_REQUEST'],
    ['an unknown field', { ...request, read_only: false }, 400, 'INVALID_REQUEST'],
    ['an unknown backup', { backup_id: 'backup-0' }, 404, 'BACKUP_NOT_FOUND'],
    ['a running backup', { backup_id: 'backup-2' }, 409, 'BACKUP_NOT_COMPLETED'],
    ['a disk that is not there', { ...request, disk_index: 5 }, 404, 'DISK_NOT_FOUND'],
  ])('refuses %s, and nothing has happened', async (_what, body, status, code) => {
    const answer = await api.call('POST', '/restore/mount', { body })
    expect([answer.status, answer.body.error_code]).toEqual([status, code])
    expect(api.operations.calls).toEqual([])
    expect(await countRows(api.catalog, 'audit_events')).toBe(0)
  })

  test.each([
    ['MOUNT_NOT_READY', 503],
    ['MOUNT_LIMIT_REACHED', 409],
    ['MOUNT_DRIVER_UNAVAILABLE', 422],
    ['FILE_SYSTEM_UNREADABLE', 422],
    ['CORRUPT_CHAIN', 422],
    ['REPO_UNAVAILABLE', 503],
  ] as const)('%s, as the workflow says', async (code, status) => {
    api.operations.answer({
      openMount: async () => {
        throw new HoldfastError(code, 'No.')
      },
    })
    const answer = await api.call('POST', '/restore/mount', { body: request })
    expect([answer.status, answer.body.error_code]).toEqual([status, code])
    expect(answer.headers.get('Retry-After')).toBe(status === 503 ? '5' : null)
  })

  test('one that somebody released meanwhile: MOUNT_NOT_FOUND', async () => {
    const answer = await api.call('POST', '/restore/mount', { body: request })
    expect([answer.status, answer.body.error_code]).toEqual([404, 'MOUNT_NOT_FOUND'])
  })

  test('a viewer may not', async () => {
    const answer = await api.call('POST', '/restore/mount', { body: request, as: 'viewer' })
    expect([answer.status, answer.body.error_code]).toEqual([403, 'FORBIDDEN'])
    expect(api.operations.calls).toEqual([])
  })

  test('what cannot be written into the audit trail is not done: CATALOG_UNAVAILABLE', async () => {
    await api.catalog.schema.alterTable('audit_events').renameTo('audit_events_away').execute()
    try {
      const answer = await api.call('POST', '/restore/mount', { body: request })
      expect([answer.status, answer.body.error_code]).toEqual([503, 'CATALOG_UNAVAILABLE'])
      expect(api.operations.calls).toEqual([])
    } finally {
      await api.catalog.schema.alterTable('audit_events_away').renameTo('audit_events').execute()
    }
  })
})

describe('looking', () => {
  test('lists them newest first, in pages, with the time that each has left', async () => {
    await mounted(mountId, 0)
    await beginMount(other, 1, new Date('2026-03-01T11:30:00Z'))
    const { body } = await api.call<MountList>('GET', '/restore/mounts', { as: 'viewer' })
    const opening = {
      mount_id: other,
      status: 'mounting',
      driver: null,
      nbd_device: '',
      volume_count: 0,
      remaining_seconds: 1800,
    }
    expect(body).toMatchObject({ success: true, mounts: [shown, opening], count: 2, total_count: 2, next_cursor: null })
    const first = await api.call<MountList>('GET', '/restore/mounts?limit=1')
    const second = await api.call<MountList>('GET', `/restore/mounts?limit=1&cursor=${first.body.next_cursor}`)
    expect([first, second].map((page) => page.body.mounts.map((mount) => mount.mount_id))).toEqual([[mountId], [other]])
    expect([second.body.next_cursor, second.body.total_count]).toEqual([null, 2])
  })

  test('no mount at all', async () => {
    const { body } = await api.call('GET', '/restore/mounts')
    expect(body).toEqual({ success: true, mounts: [], count: 0, total_count: 0, next_cursor: null })
  })

  test('one, with its end by the last access and by the longest time', async () => {
    await mounted(mountId, 0, new Date('2026-02-28T13:00:00Z'))
    await noteMountAccess(api.catalog, [{ mountId, at: Date.parse('2026-03-01T11:10:00Z') }])
    const byAccess = await api.call('GET', `/restore/mounts/${mountId}`, { as: 'viewer' })
    expect(byAccess.body).toMatchObject({ expires_at: '2026-03-01T12:10:00.000Z', remaining_seconds: 600 })
    await noteMountAccess(api.catalog, [{ mountId, at: Date.parse('2026-03-01T12:30:00Z') }])
    const byMaximum = await api.call('GET', `/restore/mounts/${mountId}`)
    expect(byMaximum.body).toMatchObject({ expires_at: '2026-03-01T13:00:00.000Z', remaining_seconds: 3600 })
  })

  test('one that has run out and is not gone yet has no time left, not less', async () => {
    await mounted(mountId, 0, new Date('2026-03-01T10:00:00Z'))
    expect((await api.call('GET', `/restore/mounts/${mountId}`)).body).toMatchObject({ remaining_seconds: 0 })
  })

  test('its volumes, with where each begins', async () => {
    await mounted(mountId, 0)
    const { body } = await api.call('GET', `/restore/${mountId}/volumes`, { as: 'viewer' })
    expect(body).toEqual({
      success: true,
      mount_id: mountId,
      volumes: [
        {
          id: 'partition-1',
          path: '/partition-1',
          state: 'readable',
          filesystem_type: 'ntfs',
          label: 'System',
          uuid: '01D9',
          size_bytes: 1000,
          note: '',
        },
        expect.objectContaining({ id: 'partition-2', path: '/partition-2' }),
        expect.objectContaining({ id: 'partition-3', path: null, state: 'encrypted', note: 'its key is not here' }),
      ],
      count: 3,
      total_count: 3,
    })
  })

  test('the only volume that can be read begins at the root', async () => {
    await beginMount(mountId, 0)
    const only = { driver: 'kernel', mountPath: '/m', device: '/dev/loop0', volumes: volumes.slice(1) } as const
    await recordMounted(api.catalog, mountId, only)
    const { body } = await api.call('GET', `/restore/${mountId}/volumes`)
    expect(body['volumes']).toMatchObject([{ path: '/' }, { path: null }])
  })
})

describe('extending', () => {
  test('says when it ends now', async () => {
    await mounted(mountId, 0)
    const { status, body } = await api.call('POST', `/restore/${mountId}/extend`, { as: 'operator' })
    expect([status, body]).toEqual([
      200,
      {
        success: true,
        mount_id: mountId,
        expires_at: '2026-03-01T13:00:00.000Z',
        remaining_seconds: 3600,
        message: expect.any(String),
      },
    ])
    expect(api.operations.calls).toEqual([{ verb: 'extendMount', args: [mountId] }])
    expect(await auditRows()).toMatchObject([{ action: 'mount.extend', subject_id: mountId, username: 'operator' }])
  })
})

describe('releasing', () => {
  test('answers in the documented words when nothing of it is left', async () => {
    await mounted(mountId, 0)
    const { status, body } = await api.call('DELETE', `/restore/${mountId}`, { as: 'operator' })
    expect([status, body]).toEqual([200, { success: true, message: 'backup unmounted successfully', mount_id: mountId }])
    expect(api.operations.calls).toEqual([{ verb: 'releaseMount', args: [mountId] }])
    expect(await auditRows()).toMatchObject([{ action: 'mount.release', subject_id: mountId, username: 'operator' }])
  })
})

describe('a mount that is not there', () => {
  const requests = [
    ['GET', `/restore/mounts/${mountId}`],
    ['GET', `/restore/${mountId}/volumes`],
    ['GET', `/restore/${mountId}/files?path=/`],
    ['GET', `/restore/${mountId}/estimate?path=/`],
    ['GET', `/restore/${mountId}/search?path=/&name=x`],
    ['GET', `/restore/${mountId}/download?path=/x`],
    ['GET', `/restore/${mountId}/download-directory?path=/x`],
    ['POST', `/restore/${mountId}/extend`],
    ['DELETE', `/restore/${mountId}`],
  ] as const

  test.each(requests)('%s %s: MOUNT_NOT_FOUND, and what to do', async (method, path) => {
    const { status, body } = await api.call(method, path)
    expect([status, body.error_code, body['mount_id']]).toEqual([404, 'MOUNT_NOT_FOUND', mountId])
    expect(body.error).toContain('It may have expired: mount the backup again.')
    expect(api.operations.calls).toEqual([])
    expect(await countRows(api.catalog, 'audit_events')).toBe(0)
  })

  const reading = requests.filter(([method, path]) => method === 'GET' && !path.includes('/mounts/'))

  test.each(reading)('%s %s while it is being opened: MOUNT_NOT_READY', async (method, path) => {
    await beginMount(mountId, 0)
    const { status, body, headers } = await api.call(method, path)
    expect([status, body.error_code, headers.get('Retry-After')]).toEqual([503, 'MOUNT_NOT_READY', '5'])
    expect(await countRows(api.catalog, 'audit_events')).toBe(0)
  })

  test.each(reading)('%s %s while it is being unmounted: MOUNT_NOT_FOUND', async (method, path) => {
    await mounted(mountId, 0)
    await markUnmounting(api.catalog, mountId)
    const { status, body } = await api.call(method, path)
    expect([status, body.error_code]).toEqual([404, 'MOUNT_NOT_FOUND'])
    expect(await countRows(api.catalog, 'audit_events')).toBe(0)
  })

  test.each(['x/y', '%2e%2e', '..%2fmounts', '%00', 'ä', 'x'.repeat(65)])('an id %j opens nothing', async (id) => {
    const { status } = await api.call('GET', `/restore/mounts/${id}`)
    expect([400, 404]).toContain(status)
  })
})
