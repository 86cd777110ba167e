import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertBackup, insertBackupDisk, insertRepository, insertVm } from '../../test/catalog-rows.ts'

interface Chain {
  chain_id: string
  full_backup_id: string
  backups: { backup_id: string; sequence_number: number; is_restorable: boolean; size_bytes: number }[]
}

let api: TestApi
const at = (hour: number) => new Date(Date.UTC(2026, 1, 1, hour))

beforeAll(async () => {
  api = await createTestApi()
  const { catalog } = api
  await insertVm(catalog, 'ctx-web', 'web')
  await insertVm(catalog, 'ctx-empty', 'empty')
  await insertVm(catalog, 'ctx-twin-1', 'twin')
  await insertVm(catalog, 'ctx-twin-2', 'twin')
  await insertRepository(catalog, 'repo-1', 'Primary')
  await insertRepository(catalog, 'repo-2', 'Secondary')
  await insertRepository(catalog, 'repo-3', 'Empty')
  const first = { vm_context_id: 'ctx-web', repository_id: 'repo-1', size_bytes: 1024 ** 3 }
  // An older chain, which must not show.
  await insertBackup(catalog, { ...first, id: 'old-full', created_at: at(1) })
  await insertBackup(catalog, { ...first, id: 'old-incremental', created_at: at(2), parent_backup_id: 'old-full' })
  // The newest chain in repo-1; its clock went backwards once.
  await insertBackup(catalog, { ...first, id: 'full', created_at: at(4) })
  await insertBackup(catalog, { ...first, id: 'one', created_at: at(5), parent_backup_id: 'full', size_bytes: 55 * 1024 ** 2 })
  await insertBackup(catalog, {
    ...first,
    id: 'two',
    created_at: at(7),
    parent_backup_id: 'one',
    verification_status: 'failed',
    size_bytes: 0,
  })
  await insertBackup(catalog, { ...first, id: 'three', created_at: at(6), parent_backup_id: 'two', size_bytes: 0 })
  await insertBackup(catalog, { ...first, id: 'broken', created_at: at(8), parent_backup_id: 'three', status: 'failed' })
  await insertBackup(catalog, {
    ...first,
    id: 'running',
    created_at: at(9),
    parent_backup_id: 'three',
    status: 'running',
    completed_at: null,
  })
  // Another repository, older than the newest in repo-1.
  await insertBackup(catalog, { ...first, repository_id: 'repo-2', id: 'elsewhere', created_at: at(3) })
  for (const id of ['full', 'one', 'two']) {
    await insertBackupDisk(catalog, id, 0)
    await insertBackupDisk(catalog, id, 1)
  }
  await catalog.updateTable('backup_disks').set({ file_size_bytes: 500 }).where('disk_index', '=', 1).execute()
})
afterAll(() => api?.drop())

test.each(['/backups/chain', '/backup/chain'])('%s by name: the list of recovery points', async (path) => {
  const { status, body } = await api.call<Chain>('GET', `${path}?vm_name=web&repository_id=repo-1`)
  expect(status).toBe(200)
  const backups = [
    { backup_id: 'full', backup_type: 'full', sequence_number: 1, parent_backup_id: null, size_gb: 1, is_restorable: true },
    {
      backup_id: 'one',
      backup_type: 'incremental',
      sequence_number: 2,
      parent_backup_id: 'full',
      size_gb: 0.054,
      is_restorable: true,
    },
    { backup_id: 'two', sequence_number: 3, verification_status: 'failed', is_restorable: false },
    { backup_id: 'three', sequence_number: 4, is_restorable: false },
  ]
  expect(body).toMatchObject({
    success: true,
    vm_name: 'web',
    vm_context_id: 'ctx-web',
    repository_id: 'repo-1',
    disk_id: null,
    full_backup_id: 'full',
    latest_backup_id: 'three',
    total_backups: 4,
    total_size_bytes: 1024 ** 3 + 55 * 1024 ** 2,
    chain_size_gb: 1.054,
    chain: backups,
    backups,
  })
  expect(body.backups).toHaveLength(4)
})

test.each(['/backups/chain', '/backup/chain'])(
  '%s by id and disk: the chain as an object, with sizes of that disk',
  async (path) => {
    const { status, body } = await api.call<Chain>('GET', `${path}?vm_context_id=ctx-web&disk_id=1`)
    expect(status).toBe(200)
    expect(body).toMatchObject({
      chain_id: 'chain-full-disk1',
      chain: {
        id: 'chain-full-disk1',
        vm_context_id: 'ctx-web',
        disk_id: 1,
        full_backup_id: 'full',
        latest_backup_id: 'three',
        total_backups: 4,
        total_size_bytes: 1500,
      },
    })
    expect(body.backups.map(({ size_bytes }) => size_bytes)).toEqual([500, 500, 500, 0])
  },
)

test('in another repository', async () => {
  const { body } = await api.call<Chain>('GET', '/backups/chain?vm_name=web&repository_id=repo-2')
  expect(body).toMatchObject({ repository_id: 'repo-2', full_backup_id: 'elsewhere', total_backups: 1 })
})

describe('refusals', () => {
  test.each([
    ['', 400, 'INVALID_REQUEST'],
    ['disk_id=0', 400, 'INVALID_REQUEST'],
    ['vm_name=web&disk_id=-1', 400, 'INVALID_REQUEST'],
    ['vm_name=web&disk_id=zero', 400, 'INVALID_REQUEST'],
    ['vm_name=web&disk_id=99999999999999999999', 400, 'INVALID_REQUEST'],
    ['vm_name=web&vm_name=web', 400, 'INVALID_REQUEST'],
    ['vm_name=db&vm_context_id=ctx-web', 400, 'INVALID_REQUEST'],
    ['vm_name=nobody', 404, 'VM_NOT_FOUND'],
    ['vm_context_id=ctx-0', 404, 'VM_NOT_FOUND'],
    ['vm_name=twin', 409, 'VM_NAME_AMBIGUOUS'],
    ['vm_name=web&repository_id=repo-0', 404, 'REPO_NOT_FOUND'],
    ['vm_name=web&repository_id=repo-3', 404, 'CHAIN_NOT_FOUND'],
    ['vm_name=empty', 404, 'CHAIN_NOT_FOUND'],
    ['vm_name=web&disk_id=7', 404, 'DISK_NOT_FOUND'],
  ])('%s: %i %s', async (query, status, code) => {
    const answer = await api.call('GET', `/backups/chain?${query}`)
    expect([answer.status, answer.body.error_code]).toEqual([status, code])
  })
})

test('a loop in the data ends', async () => {
  const { catalog } = api
  await insertVm(catalog, 'ctx-loop', 'loop')
  const loop = { vm_context_id: 'ctx-loop', repository_id: 'repo-1' }
  await insertBackup(catalog, { ...loop, id: 'loop-a', created_at: at(1) })
  await insertBackup(catalog, { ...loop, id: 'loop-b', created_at: at(2), parent_backup_id: 'loop-a' })
  await catalog
    .updateTable('backup_jobs')
    .set({ parent_backup_id: 'loop-b', backup_type: 'incremental' })
    .where('id', '=', 'loop-a')
    .execute()
  const { status, body } = await api.call<Chain>('GET', '/backups/chain?vm_name=loop')
  expect(status).toBe(200)
  expect(body.backups.map(({ is_restorable }) => is_restorable)).toEqual([false, false])
})
