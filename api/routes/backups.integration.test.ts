import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parkBackup, unparkBackup } from '../../db/queries/parking.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { ErrorCode, JsonObject } from '../../domain/errors.ts'
import { isBackupId } from '../../domain/ids.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertBackup, insertBackupDisk, insertRepository, insertVm } from '../../test/catalog-rows.ts'

interface BackupList {
  backups: { id: string }[]
  count: number
  total_count: number
  next_cursor: string | null
}

let api: TestApi
const at = (hour: number) => new Date(Date.UTC(2026, 1, 1, hour))

beforeAll(async () => {
  api = await createTestApi()
  const { catalog } = api
  await insertVm(catalog, 'ctx-web', 'web')
  await insertVm(catalog, 'ctx-db', 'db')
  await insertVm(catalog, 'ctx-twin-1', 'twin')
  await insertVm(catalog, 'ctx-twin-2', 'twin')
  await insertRepository(catalog, 'repo-1', 'Primary')
  await insertRepository(catalog, 'repo-2', 'Secondary')
  await catalog.updateTable('backup_repositories').set({ enabled: false }).where('id', '=', 'repo-2').execute()
  await insertRepository(catalog, 'repo-full')
  await catalog.updateTable('backup_repositories').set({ stopped_at: new Date() }).where('id', '=', 'repo-full').execute()
  await insertRepository(catalog, 'repo-away')
  await catalog.updateTable('backup_repositories').set({ health: 'offline' }).where('id', '=', 'repo-away').execute()
  await catalog
    .insertInto('vm_disks')
    .values([0, 1].map((index) => vmDisk(index)))
    .execute()
  const web = { vm_context_id: 'ctx-web', vm_name: 'web', repository_id: 'repo-1' }
  await insertBackup(catalog, { ...web, id: 'backup-1', created_at: at(1), size_bytes: 107 * 1024 ** 3, total_bytes: 110e9 })
  await insertBackup(catalog, { ...web, id: 'backup-2', created_at: at(2), parent_backup_id: 'backup-1' })
  // Two of one instant: the id decides.
  await insertBackup(catalog, { ...web, id: 'backup-3a', created_at: at(3), status: 'failed', completed_at: at(4) })
  await insertBackup(catalog, { ...web, id: 'backup-3b', created_at: at(3), status: 'cancelled', completed_at: null })
  const db = { vm_context_id: 'ctx-db', vm_name: 'db', repository_id: 'repo-2' }
  await insertBackup(catalog, {
    ...db,
    id: 'backup-4',
    created_at: at(5),
    status: 'running',
    completed_at: null,
    total_bytes: 4000,
  })
  await catalog
    .updateTable('backup_jobs')
    .set({ error_code: 'DISK_READ_FAILED', error_message: 'disk 0 cannot be read' })
    .where('id', '=', 'backup-3a')
    .execute()
  await insertBackupDisk(catalog, 'backup-1', 0)
  await insertBackupDisk(catalog, 'backup-1', 1)
  await insertRunningDisks()
})
afterAll(() => api?.drop())
beforeEach(() => api.operations.reset())

function vmDisk(index: number) {
  return {
    vm_context_id: 'ctx-web',
    disk_index: index,
    disk_key: `/images/${index}.raw`,
    label: `Hard disk ${index + 1}`,
    format: 'raw',
    size_bytes: (index + 1) * 1024 ** 3,
  }
}

async function insertRunningDisks() {
  const disk = {
    backup_job_id: 'backup-4',
    backup_type: 'full' as const,
    size_bytes: 2000,
    disk_change_id: null,
    blocks_sha256: null,
  }
  await api.catalog
    .insertInto('backup_disks')
    .values([
      {
        ...disk,
        disk_index: 0,
        disk_key: 'a',
        label: 'a',
        qcow2_path: '/srv/repo-2/vms/db/backup-4/disk-0.qcow2',
        status: 'completed',
        processed_bytes: 2000,
        completed_at: at(6),
      },
      {
        ...disk,
        disk_index: 1,
        disk_key: 'b',
        label: 'b',
        qcow2_path: '/srv/repo-2/vms/db/backup-4/disk-1.qcow2',
        status: 'running',
        processed_bytes: 500,
        bytes_transferred: 300,
        rate_bytes_per_second: 100,
        resumed_at_bytes: 128,
        attempt: 2,
        progress_at: api.clock.now,
      },
    ])
    .execute()
}

const idsOf = (body: BackupList) => body.backups.map(({ id }) => id)

describe('listing', () => {
  const everything = ['backup-4', 'backup-3b', 'backup-3a', 'backup-2', 'backup-1']

  test.each(['/backups', '/backup/list'])('%s: newest first, with all fields of both documents', async (path) => {
    const { status, body } = await api.call<BackupList>('GET', path)
    expect(status).toBe(200)
    expect(idsOf(body)).toEqual(everything)
    expect(body).toMatchObject({ success: true, count: 5, total_count: 5, next_cursor: null })
    expect(body.backups[4]).toMatchObject({
      backup_id: 'backup-1',
      backup_job_id: 'backup-1',
      vm_name: 'web',
      repository_name: 'Primary',
      backup_type: 'full',
      full_reason: 'first_backup',
      status: 'completed',
      total_size_gb: 107,
      disk_count: 2,
      progress_percent: 100,
      compression_enabled: true,
      copies: [],
      created_at: '2026-02-01T01:00:00.000Z',
    })
    expect(body.backups[2]).toMatchObject({ status: 'failed', error_code: 'DISK_READ_FAILED', disk_count: 0 })
  })

  test.each([1, 2, 3, 5])('%i at a time, every backup comes once', async (limit) => {
    const seen: string[] = []
    let cursor: string | null = null
    do {
      const query: string = cursor === null ? '' : `&cursor=${cursor}`
      const { body } = await api.call<BackupList>('GET', `/backups?limit=${limit}${query}`)
      expect(body.total_count).toBe(5)
      expect(body.count).toBeLessThanOrEqual(limit)
      seen.push(...idsOf(body))
      cursor = body.next_cursor
    } while (cursor !== null)
    expect(seen).toEqual(everything)
  })

  test.each([
    ['vm_name=web', ['backup-3b', 'backup-3a', 'backup-2', 'backup-1']],
    ['vm_context_id=ctx-db', ['backup-4']],
    ['repository_id=repo-2', ['backup-4']],
    ['status=completed', ['backup-2', 'backup-1']],
    ['status=running&vm_name=web', []],
    ['backup_type=incremental', ['backup-2']],
    ['from=2026-02-01T02:00:00Z&to=2026-02-01T03:00:00Z', ['backup-2']],
    ['from=2026-02-01T03:00:00%2B01:00&to=2026-02-01T04:00:00%2B01:00', ['backup-2']],
    ['vm_name=nobody', []],
  ])('filtered by %s', async (query, ids) => {
    const { body } = await api.call<BackupList>('GET', `/backups?${query}`)
    expect(idsOf(body)).toEqual(ids)
    expect(body.total_count).toBe(ids.length)
  })

  test.each([
    'limit=0',
    'limit=501',
    'limit=many',
    'limit=1.5',
    'limit=1&limit=2',
    'status=started',
    'status=',
    'status=completed&status=failed',
    'backup_type=differential',
    'from=yesterday',
    'from=2026-02-01T00:00:00',
    'cursor=AAAA',
    'cursor=' + 'A'.repeat(2000),
    'vm_context_id=../x',
    'vm_nane=web',
    '__proto__=1',
    "repository_id=1'%20OR%20'1'='1",
  ])('%s: INVALID_REQUEST', async (query) => {
    const { status, body } = await api.call('GET', `/backups?${query}`)
    expect([status, body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    expect(body['issues']).not.toEqual([])
  })
})

describe('one backup', () => {
  test.each(['/backups/backup-4', '/backup/backup-4'])('%s: running, in both forms', async (path) => {
    const { status, body } = await api.call('GET', path)
    expect(status).toBe(200)
    const expected = {
      backup_id: 'backup-4',
      backup_job_id: 'backup-4',
      vm_context_id: 'ctx-db',
      vm_name: 'db',
      repository_id: 'repo-2',
      status: 'running',
      repository_path: '/srv/repo-2/vms/ctx-db/backup-4',
      processed_bytes: 2500,
      total_bytes: 4000,
      progress_percent: 62.5,
      progress_percentage: 62.5,
      rate_bytes_per_second: 100,
      eta_seconds: 15,
      completed_at: null,
      error_code: null,
      disks: [
        { disk_index: 0, status: 'completed', progress_percent: 100, eta_seconds: null, qcow2_path: null, resumed_at_bytes: 0 },
        {
          disk_index: 1,
          status: 'running',
          progress_percent: 25,
          bytes_transferred: 300,
          rate_bytes_per_second: 100,
          eta_seconds: 15,
          resumed_at_bytes: 128,
          attempt: 2,
        },
      ],
    }
    expect(body).toMatchObject({ success: true, ...expected, backup: { id: 'backup-4', ...expected } })
  })

  test('one that is parked still runs, and says why it waits and since when', async () => {
    const message = 'The repository is full.'
    await parkBackup(api.catalog, { backupId: 'backup-4', diskIndex: 0, reason: 'repository_full', message })
    const parked = { reason: 'repository_full', since: expect.stringMatching(/Z$/), message }
    const { body } = await api.call('GET', '/backups/backup-4')
    expect(body).toMatchObject({ status: 'running', parked, backup: { parked } })
    const list = await api.call<BackupList>('GET', '/backups')
    expect(list.body.backups[0]).toMatchObject({ id: 'backup-4', parked })
    expect(list.body.backups[1]).toMatchObject({ parked: null })
    await unparkBackup(api.catalog, { backupId: 'backup-4', diskIndex: 0 })
    expect((await api.call('GET', '/backups/backup-4')).body).toMatchObject({ status: 'running', parked: null })
  })

  test('a mover that has fallen silent has no rate and no ETA', async () => {
    const { now } = api.clock
    api.clock.now = new Date(now.getTime() + 60_000)
    const { body } = await api.call('GET', '/backups/backup-4').finally(() => (api.clock.now = now))
    expect(body).toMatchObject({ rate_bytes_per_second: 0, eta_seconds: null })
  })

  test('completed: its files are named', async () => {
    const { body } = await api.call('GET', '/backups/backup-1')
    expect(body).toMatchObject({ disk_count: 2, disks: [{ qcow2_path: '/srv/backup-1/disk-0.qcow2' }, { disk_index: 1 }] })
  })

  test.each([
    ['unknown', 'backup-0', 404, 'BACKUP_NOT_FOUND'],
    ['an id of another age', 'backup-pgtest1-1759947871', 404, 'BACKUP_NOT_FOUND'],
    ['too long', 'b'.repeat(65), 400, 'INVALID_REQUEST'],
    ['a path', '..%2f..%2fetc%2fpasswd', 400, 'INVALID_REQUEST'],
    ['NUL', 'a%00b', 400, 'INVALID_REQUEST'],
    ['SQL', "1';%20DROP%20TABLE%20backup_jobs;--", 400, 'INVALID_REQUEST'],
    ['another script', '%E5%90%8D', 400, 'INVALID_REQUEST'],
  ])('%s', async (_what, id, status, code) => {
    const { status: answered, body } = await api.call('GET', `/backups/${id}`)
    expect([answered, body.error_code]).toEqual([status, code])
  })
})

describe('starting', () => {
  const request = { vm_name: 'web', repository_id: 'repo-1', backup_type: 'full' }

  test.each(['/backups', '/backup/start'])('%s', async (path) => {
    const { status, body } = await api.call('POST', path, { body: request, as: 'operator' })
    expect(status).toBe(202)
    expect(body).toMatchObject({
      success: true,
      backup_job_id: body['backup_id'],
      vm_context_id: 'ctx-web',
      vm_name: 'web',
      repository_id: 'repo-1',
      policy_id: null,
      status: 'started',
      backup_type: 'full',
      requested_type: 'full',
      full_reason: 'requested',
      parent_backup_id: null,
      compression_enabled: true,
      estimated_size_bytes: 123_456,
      disk_results: [
        { disk_id: 0, disk_index: 0, vmware_disk_key: null, nbd_port: null, size_gb: 1, qcow2_path: null, status: 'pending' },
        { disk_index: 1, size_gb: 2 },
      ],
      created_at: '2026-03-01T12:00:00.000Z',
      message: 'Backup started.',
    })
    expect(isBackupId(String(body['backup_id']))).toBe(true)
    expect(api.operations.calls).toEqual([
      {
        verb: 'startBackup',
        args: [
          {
            backupId: body['backup_id'],
            vmContextId: 'ctx-web',
            repositoryId: 'repo-1',
            backupType: 'full',
            compression: 'zstd',
            rateLimitBytesPerSecond: null,
          },
        ],
      },
    ])
  })

  test('by id, uncompressed, slowly', async () => {
    const body = {
      vm_context_id: 'ctx-web',
      vm_name: 'web',
      repository_id: 'repo-1',
      backup_type: 'incremental',
      compression_enabled: false,
      rate_limit_bytes_per_second: 1_000_000,
      policy_id: null,
    }
    expect((await api.call('POST', '/backups', { body })).status).toBe(202)
    expect(api.operations.calls[0]?.args[0]).toMatchObject({
      backupType: 'incremental',
      compression: 'none',
      rateLimitBytesPerSecond: 1_000_000,
    })
  })

  test('an incremental that becomes a full says why', async () => {
    api.operations.answer({
      startBackup: async ({ backupId }) => ({
        backupId,
        backupType: 'full',
        fullReason: 'chain_limit',
        fullReasonDetail: 'the chain holds 30 backups',
        parentBackupId: null,
        estimatedSizeBytes: 1,
        decided: true,
      }),
    })
    const { body } = await api.call('POST', '/backups', { body: { ...request, backup_type: 'incremental' } })
    expect(body).toMatchObject({ backup_type: 'full', requested_type: 'incremental', full_reason: 'chain_limit' })
    expect(body['message']).toBe('Backup started as a full: the chain holds 30 backups.')
  })

  test('one that no mover has taken yet says so, and shows the disks recorded', async () => {
    api.operations.answer({
      startBackup: async ({ backupId, backupType, vmContextId, repositoryId }) => {
        const row = { id: backupId, vm_context_id: vmContextId, repository_id: repositoryId, completed_at: null }
        await insertBackup(api.catalog, { ...row, status: 'pending', created_at: at(9) })
        await insertBackupDisk(api.catalog, backupId, 1)
        return {
          backupId,
          backupType,
          fullReason: null,
          fullReasonDetail: null,
          parentBackupId: null,
          estimatedSizeBytes: 0,
          decided: false,
        }
      },
    })
    const { body } = await api.call('POST', '/backups', { body: request })
    expect(body).toMatchObject({
      created_at: at(9).toISOString(),
      full_reason: null,
      message: expect.stringContaining('No mover has answered yet'),
      disk_results: [{ qcow2_path: null }, { qcow2_path: expect.stringContaining('disk-1.qcow2') }],
    })
    await api.catalog.deleteFrom('backup_jobs').where('id', '=', String(body['backup_id'])).execute()
  })

  test.each([
    ['no VM', { ...request, vm_name: undefined }],
    ['no repository', { ...request, repository_id: undefined }],
    ['no type', { ...request, backup_type: undefined }],
    ['another type', { ...request, backup_type: 'differential' }],
    ['a VM that is a list', { ...request, vm_name: ['web'] }],
    ['a VM that is an object', { ...request, vm_name: { $ne: null } }],
    ['a repository that is a number', { ...request, repository_id: 1 }],
    ['a rate of 0', { ...request, rate_limit_bytes_per_second: 0 }],
    ['a negative rate', { ...request, rate_limit_bytes_per_second: -1 }],
    ['a rate beyond numbers', { ...request, rate_limit_bytes_per_second: 2 ** 60 }],
    ['a rate in words', { ...request, rate_limit_bytes_per_second: '1M' }],
    ['compression in words', { ...request, compression_enabled: 'yes' }],
    ['a policy, as none exists', { ...request, policy_id: 'policy-1' }],
    ['a misspelt field', { ...request, compresion_enabled: false }],
    ['id and name of two VMs', { ...request, vm_context_id: 'ctx-db' }],
    ['an id that is a path', { ...request, vm_context_id: '../../x' }],
  ])('refuses %s: INVALID_REQUEST', async (_what, body) => {
    const answer = await api.call('POST', '/backups', { body })
    expect([answer.status, answer.body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    expect(api.operations.calls).toEqual([])
  })

  test.each([
    [{ ...request, vm_name: 'nobody' }, 404, 'VM_NOT_FOUND'],
    [{ ...request, vm_name: "web' OR '1'='1" }, 404, 'VM_NOT_FOUND'],
    [{ ...request, vm_name: 'WEB' }, 404, 'VM_NOT_FOUND'],
    [{ ...request, vm_name: undefined, vm_context_id: 'ctx-0' }, 404, 'VM_NOT_FOUND'],
    [{ ...request, vm_name: 'twin' }, 409, 'VM_NAME_AMBIGUOUS'],
    [{ ...request, repository_id: 'repo-0' }, 404, 'REPO_NOT_FOUND'],
    [{ ...request, repository_id: 'repo-2' }, 409, 'REPO_DISABLED'],
    [{ ...request, repository_id: 'repo-full' }, 409, 'REPO_CRITICAL'],
    [{ ...request, repository_id: 'repo-away' }, 503, 'REPO_UNAVAILABLE'],
  ])('%j: %i %s', async (body, status, code) => {
    const answer = await api.call('POST', '/backups', { body })
    expect([answer.status, answer.body.error_code]).toEqual([status, code])
    expect(api.operations.calls).toEqual([])
  })

  test('what admission refuses with comes through, with its numbers', async () => {
    api.operations.answer({
      startBackup: async () => {
        throw new HoldfastError('INSUFFICIENT_STORAGE', 'Too little space.', {
          details: { required_bytes: 10, available_bytes: 5 },
        })
      },
    })
    const { status, body } = await api.call('POST', '/backups', { body: request })
    expect([status, body.error_code, body['required_bytes'], body['available_bytes']]).toEqual([
      507,
      'INSUFFICIENT_STORAGE',
      10,
      5,
    ])
  })

  test('a VM whose chain has a writer: VM_BUSY', async () => {
    api.operations.answer({
      startBackup: async () => {
        throw new HoldfastError('VM_BUSY', 'Busy.', { details: { workflow_type: 'backupVm', backup_id: 'backup-4' } })
      },
    })
    const { status, body } = await api.call('POST', '/backups', { body: request })
    expect([status, body]).toMatchObject([409, { error_code: 'VM_BUSY', workflow_type: 'backupVm', backup_id: 'backup-4' }])
  })
})

describe('cancelling', () => {
  test('a running one', async () => {
    const { status, body } = await api.call('POST', '/backups/backup-4/cancel', { as: 'operator' })
    expect([status, body]).toMatchObject([202, { success: true, backup_id: 'backup-4', status: 'cancelling' }])
    expect(api.operations.calls).toEqual([{ verb: 'cancelBackup', args: ['ctx-db', 'backup-4'] }])
  })

  test.each(['backup-1', 'backup-3a', 'backup-3b'])('%s has ended: BACKUP_NOT_RUNNING', async (id) => {
    const { status, body } = await api.call('POST', `/backups/${id}/cancel`)
    expect([status, body.error_code]).toEqual([409, 'BACKUP_NOT_RUNNING'])
    expect(api.operations.calls).toEqual([])
  })

  test('unknown: BACKUP_NOT_FOUND', async () => {
    expect((await api.call('POST', '/backups/backup-0/cancel')).body.error_code).toBe('BACKUP_NOT_FOUND')
  })
})

describe('deleting', () => {
  test.each(['/backups/backup-2', '/backup/backup-2'])('%s', async (path) => {
    const { status, body } = await api.call('DELETE', path)
    expect([status, body]).toEqual([200, { success: true, backup_id: 'backup-2', message: 'Backup deleted successfully' }])
    expect(api.operations.calls).toEqual([{ verb: 'deleteBackup', args: ['ctx-web', 'backup-2'] }])
  })

  test('a running one: cancel it first', async () => {
    const { status, body } = await api.call('DELETE', '/backups/backup-4')
    expect([status, body.error_code, body.error]).toEqual([409, 'VM_BUSY', expect.stringContaining('cancel it first')])
    expect(api.operations.calls).toEqual([])
  })

  test.each([
    ['BACKUP_HAS_DEPENDENTS', { dependent_ids: ['backup-2'] }],
    ['BACKUP_PINNED', { pinned_by: ['verify:backup-1:repo-1'] }],
    ['VM_BUSY', { workflow_type: 'backupVm' }],
  ] satisfies [ErrorCode, JsonObject][])('%s: 409 with what stands in the way', async (code, details) => {
    api.operations.answer({
      deleteBackup: async () => {
        throw new HoldfastError(code, 'no', { details })
      },
    })
    const { status, body } = await api.call('DELETE', '/backups/backup-1')
    expect([status, body]).toMatchObject([409, { error_code: code, ...details }])
  })

  test('unknown: BACKUP_NOT_FOUND', async () => {
    expect((await api.call('DELETE', '/backups/backup-0')).body.error_code).toBe('BACKUP_NOT_FOUND')
  })
})

describe('verifying', () => {
  test('a completed one', async () => {
    const { status, body } = await api.call('POST', '/backups/backup-1/verify', { as: 'operator' })
    expect([status, body]).toMatchObject([
      202,
      { backup_id: 'backup-1', repository_id: 'repo-1', workflow_id: 'verify:backup-1:repo-1', status: 'started' },
    ])
  })

  test('a running one: BACKUP_NOT_COMPLETED', async () => {
    const { status, body } = await api.call('POST', '/backups/backup-4/verify')
    expect([status, body.error_code, body['status']]).toEqual([409, 'BACKUP_NOT_COMPLETED', 'running'])
    expect(api.operations.calls).toEqual([])
  })

  test('unknown: BACKUP_NOT_FOUND', async () => {
    expect((await api.call('POST', '/backups/backup-0/verify')).body.error_code).toBe('BACKUP_NOT_FOUND')
  })
})
