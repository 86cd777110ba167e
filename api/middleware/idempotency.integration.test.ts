import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../domain/errors.ts'
import type { StartBackupRequest } from '../../temporal/operations.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertBackup, insertBackupDisk, insertRepository, insertVm } from '../../test/catalog-rows.ts'
import { KEY_LIFETIME_MS, forgetExpiredKeys } from './idempotency.ts'

interface Started {
  backup_id: string
}

let api: TestApi
const request = { vm_name: 'web', repository_id: 'repo-1', backup_type: 'full' }
let nextKey = 0
const newKey = () => `key-${nextKey++}`

beforeAll(async () => {
  api = await createTestApi()
  await insertVm(api.catalog, 'ctx-web', 'web')
  await insertRepository(api.catalog, 'repo-1')
  await insertBackup(api.catalog, { id: 'backup-1', vm_context_id: 'ctx-web', repository_id: 'repo-1' })
  await insertBackupDisk(api.catalog, 'backup-1')
})
afterAll(() => api?.drop())
beforeEach(() => api.operations.reset())

const start = (key: string, body: object = request, path = '/backups', as: 'admin' | 'operator' = 'admin') =>
  api.call<Started>('POST', path, { body, as, headers: { 'Idempotency-Key': key } })

const startedIds = () =>
  api.operations.calls
    .filter(({ verb }) => verb === 'startBackup')
    .map(({ args }) => args[0] as StartBackupRequest)
    .map(({ backupId }) => backupId)

describe('the same key and the same request', () => {
  test('start once and are answered alike, also by the alias', async () => {
    const key = newKey()
    const first = await start(key)
    api.clock.now = new Date(api.clock.now.getTime() + 60_000)
    // Said in another order, with a default spelt out: still the same request.
    const again = await start(key, { compression_enabled: true, backup_type: 'full', repository_id: 'repo-1', vm_name: 'web' })
    const alias = await start(key, request, '/backup/start')
    expect(again).toMatchObject({ status: 202, body: first.body })
    expect(alias).toMatchObject({ status: 202, body: first.body })
    expect(startedIds()).toEqual([first.body.backup_id])
  })

  test('start once when they arrive together', async () => {
    const key = newKey()
    const gate = Promise.withResolvers<void>()
    api.operations.answer({
      startBackup: async ({ backupId, backupType }) => {
        await gate.promise
        return {
          backupId,
          backupType,
          fullReason: 'requested',
          fullReasonDetail: null,
          parentBackupId: null,
          estimatedSizeBytes: 1,
          decided: true,
        }
      },
    })
    const answers = Promise.all(Array.from({ length: 8 }, () => start(key)))
    await expect.poll(startedIds).toHaveLength(1)
    gate.resolve()
    const ids = (await answers).map(({ status, body }) => `${status} ${body.backup_id}`)
    expect(new Set(ids).size).toBe(1)
    expect(startedIds()).toHaveLength(1)
  })

  test('without a key, each starts its own', async () => {
    const [one, other] = await Promise.all([
      api.call<Started>('POST', '/backups', { body: request }),
      api.call<Started>('POST', '/backups', { body: request }),
    ])
    expect(one.body.backup_id).not.toBe(other.body.backup_id)
  })

  test('two users may use one key', async () => {
    const key = newKey()
    const mine = await start(key)
    const theirs = await start(key, request, '/backups', 'operator')
    expect(theirs.body.backup_id).not.toBe(mine.body.backup_id)
  })
})

describe('the same key and another request', () => {
  test('IDEMPOTENCY_CONFLICT, and nothing starts', async () => {
    const key = newKey()
    await start(key)
    const other = await start(key, { ...request, backup_type: 'incremental' })
    expect([other.status, other.body.error_code]).toEqual([409, 'IDEMPOTENCY_CONFLICT'])
    const verify = await start(key, {}, '/backups/backup-1/verify')
    expect(verify.body.error_code).toBe('IDEMPOTENCY_CONFLICT')
    expect(startedIds()).toHaveLength(1)
  })

  test('is possible again after 24 hours', async () => {
    const key = newKey()
    await start(key)
    api.clock.now = new Date(api.clock.now.getTime() + KEY_LIFETIME_MS + 1)
    expect((await start(key, { ...request, backup_type: 'incremental' })).status).toBe(202)
    expect(startedIds()).toHaveLength(2)
  })
})

describe('after a failure', () => {
  test('of which nobody knows whether it started: the retry uses the same id', async () => {
    const key = newKey()
    api.operations.answer({
      startBackup: async () => {
        throw new HoldfastError('ORCHESTRATOR_UNAVAILABLE', 'away')
      },
    })
    expect((await start(key)).status).toBe(503)
    api.operations.answer({
      startBackup: async ({ backupId, backupType }) => {
        const reason = { fullReason: 'requested' as const, fullReasonDetail: null }
        return { backupId, backupType, ...reason, parentBackupId: null, estimatedSizeBytes: 1, decided: true }
      },
    })
    const retried = await start(key)
    expect(retried.status).toBe(202)
    expect(startedIds()).toEqual([retried.body.backup_id, retried.body.backup_id])
  })

  test('between start and answer: the retry finds the backup and starts nothing', async () => {
    const key = newKey()
    api.operations.answer({
      startBackup: async ({ backupId, vmContextId, repositoryId }) => {
        const row = { id: backupId, vm_context_id: vmContextId, repository_id: repositoryId, completed_at: null }
        await insertBackup(api.catalog, { ...row, status: 'running', full_reason: 'first_backup', started_at: new Date() })
        throw new HoldfastError('INTERNAL', 'the process died here')
      },
    })
    expect((await start(key)).status).toBe(500)
    const retried = await start(key)
    expect(retried).toMatchObject({ status: 202, body: { full_reason: 'first_backup', backup_id: startedIds()[0] } })
    expect(startedIds()).toHaveLength(1)
  })

  test('at admission: the retry is refused in the same words', async () => {
    const key = newKey()
    api.operations.answer({
      startBackup: async ({ backupId, vmContextId, repositoryId }) => {
        await insertBackup(api.catalog, {
          id: backupId,
          vm_context_id: vmContextId,
          repository_id: repositoryId,
          status: 'failed',
        })
        const error_message = 'Too little space.'
        const refused = { error_code: 'INSUFFICIENT_STORAGE' as const, error_message }
        await api.catalog.updateTable('backup_jobs').set(refused).where('id', '=', backupId).execute()
        throw new HoldfastError('INSUFFICIENT_STORAGE', error_message)
      },
    })
    for (let attempt = 0; attempt < 2; attempt++) {
      const { status, body } = await start(key)
      expect([status, body.error_code, body.error]).toEqual([507, 'INSUFFICIENT_STORAGE', 'Too little space.'])
    }
    expect(startedIds()).toHaveLength(1)
  })

  test('of the request itself: the key is not used up', async () => {
    const key = newKey()
    expect((await start(key, { ...request, backup_type: 'both' })).status).toBe(400)
    expect((await start(key, { ...request, vm_name: 'nobody' })).status).toBe(404)
    expect((await start(key)).status).toBe(202)
  })
})

describe('the other verbs', () => {
  test.each([
    ['registerVm', '/vm-contexts', { vm_name: 'new', source_type: 'disk-image', disks: [{ path: '/a.raw' }] }],
    ['registerRepository', '/repositories', { name: 'New', type: 'local', config: { path: '/srv/new' } }],
    ['restoreDisk', '/backups/backup-1/restore', { disk_index: 0, target_path: '/restored/x.raw' }],
    ['verifyBackup', '/backups/backup-1/verify', {}],
  ] as const)('%s starts once', async (verb, path, body) => {
    const key = newKey()
    const first = await start(key, body, path)
    const again = await start(key, body, path)
    expect(again).toMatchObject({ status: first.status, body: first.body })
    expect(first.status).toBeLessThan(300)
    expect(api.operations.calls.filter((call) => call.verb === verb)).toHaveLength(1)
  })

  test('a VM registered before a crash is found again', async () => {
    const key = newKey()
    const body = { vm_name: 'crashed', source_type: 'disk-image', disks: [{ path: '/a.raw' }] }
    api.operations.answer({
      registerVm: async ({ contextId, vmName }) => {
        await insertVm(api.catalog, contextId, vmName)
        throw new HoldfastError('INTERNAL', 'the process died here')
      },
    })
    expect((await start(key, body, '/vm-contexts')).status).toBe(500)
    expect(await start(key, body, '/vm-contexts')).toMatchObject({ status: 201, body: { vm_name: 'crashed' } })
    expect(api.operations.calls.filter(({ verb }) => verb === 'registerVm')).toHaveLength(1)
  })

  test('a repository registered before a crash is found again', async () => {
    const key = newKey()
    const body = { name: 'Crashed', type: 'local', config: { path: '/srv/crashed' } }
    api.operations.answer({
      registerRepository: async ({ repositoryId, name }) => {
        await insertRepository(api.catalog, repositoryId, name)
        throw new HoldfastError('INTERNAL', 'the process died here')
      },
    })
    expect((await start(key, body, '/repositories')).status).toBe(500)
    expect(await start(key, body, '/repositories')).toMatchObject({ status: 201 })
    expect(api.operations.calls.filter(({ verb }) => verb === 'registerRepository')).toHaveLength(1)
  })
})

test.each(['', ' ', 'with space', 'x'.repeat(192), 'schlüssel'])('key %j: INVALID_REQUEST', async (key) => {
  // Headers carry bytes; what a client would send for such a name.
  const { status, body } = await start(Buffer.from(key).toString('latin1'))
  expect([status, body.error_code]).toEqual([400, 'INVALID_REQUEST'])
  expect(startedIds()).toEqual([])
})

test('expired keys are forgotten, others stay', async () => {
  await api.catalog.deleteFrom('idempotency_keys').execute()
  await start(newKey())
  const now = () => new Date(api.clock.now.getTime() + KEY_LIFETIME_MS - 1)
  expect(await forgetExpiredKeys({ catalog: api.catalog, now })).toBe(0)
  const later = () => new Date(now().getTime() + 2)
  expect(await forgetExpiredKeys({ catalog: api.catalog, now: later })).toBe(1)
})
