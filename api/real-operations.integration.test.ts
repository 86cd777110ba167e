/** The API with the real operations behind it: real Temporal, workers, MariaDB and QEMU. What each part does alone is tested elsewhere. */
import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestApi } from '../test/api-app.ts'
import type { TestApi } from '../test/api-app.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { requireTool } from '../test/requires.ts'

requireTool('qemu-nbd')

interface Started {
  backup_id: string
  backup_type: string
  full_reason: string | null
}

const DISK_BYTES = 8 * 1024 * 1024
let holdfast: HoldfastProcesses
let api: TestApi
let image: string
let repositoryId: string

beforeAll(async () => {
  holdfast = await createHoldfastProcesses()
  api = await createTestApi({ real: holdfast })
  image = join(holdfast.home, 'disk.raw')
  await writeFile(image, randomBytes(DISK_BYTES))
})
afterAll(async () => {
  await api?.drop()
  await holdfast?.close()
})

const start = (body: object, key?: string) =>
  api.call<Started>('POST', '/backups', {
    body: { vm_name: 'web', repository_id: repositoryId, backup_type: 'incremental', ...body },
    ...(key !== undefined && { headers: { 'Idempotency-Key': key } }),
  })

async function fieldOf(path: string, field: string): Promise<unknown> {
  return (await api.call('GET', path)).body[field]
}

const becomes = (path: string, field: string, value: unknown) =>
  expect.poll(() => fieldOf(path, field), { timeout: 60_000, interval: 100 }).toBe(value)

describe('from nothing to a restored disk', () => {
  let full: string
  let incremental: string

  test('a repository and a VM', async () => {
    const path = join(holdfast.home, 'repository')
    const repository = await api.call<{ repository_id: string }>('POST', '/repositories', {
      body: { name: 'Local', type: 'local', config: { path } },
    })
    expect([repository.status, repository.body]).toMatchObject([201, { storage: { writable: true } }])
    repositoryId = repository.body.repository_id
    expect((await api.call('GET', `/repositories/${repositoryId}`)).body).toMatchObject({ repository: { config: { path } } })
    const disks = [{ path: image, format: 'raw', label: 'System' }]
    const vm = await api.call('POST', '/vm-contexts', { body: { vm_name: 'web', source_type: 'disk-image', disks } })
    expect([vm.status, vm.body]).toMatchObject([201, { disks: [{ label: 'System', size_bytes: DISK_BYTES, path: image }] }])
    expect((await api.call('GET', '/vm-contexts/web/disks')).body['disks']).toEqual(vm.body['disks'])
    const again = await api.call('POST', '/vm-contexts', { body: { vm_name: 'web', source_type: 'disk-image', disks } })
    expect([again.status, again.body.error_code]).toEqual([409, 'VM_EXISTS'])
    const missing = { vm_name: 'gone', source_type: 'disk-image', disks: [{ path: `${image}.gone`, format: 'raw' }] }
    expect((await api.call('POST', '/vm-contexts', { body: missing })).body.error_code).toBe('SOURCE_NOT_FOUND')
  })

  test('a backup asked for three times at once under one key is one backup', async () => {
    const answers = await Promise.all([start({}, 'once'), start({}, 'once'), start({}, 'once')])
    expect(answers.map(({ status }) => status)).toEqual([202, 202, 202])
    expect(new Set(answers.map(({ body }) => body.backup_id)).size).toBe(1)
    expect(answers[0]?.body).toMatchObject({ backup_type: 'full', full_reason: 'first_backup' })
    full = answers[0].body.backup_id
    await becomes(`/backups/${full}`, 'status', 'completed')
    const { body } = await api.call('GET', `/backups/${full}`)
    expect(body).toMatchObject({
      progress_percent: 100,
      processed_bytes: DISK_BYTES,
      disks: [{ qcow2_path: expect.stringContaining(full) }],
    })
    expect((await api.call('GET', '/backups')).body['total_count']).toBe(1)
  })

  test('a slow one can be seen, holds the chain, and is cancelled', async () => {
    const { body } = await start({ backup_type: 'full', rate_limit_bytes_per_second: 256 * 1024 })
    await becomes(`/backups/${body.backup_id}`, 'status', 'running')
    const second = await start({})
    expect([second.status, second.body]).toMatchObject([409, { error_code: 'VM_BUSY', backup_id: body.backup_id }])
    expect((await api.call('DELETE', `/backups/${body.backup_id}`)).body.error_code).toBe('VM_BUSY')
    expect((await api.call('POST', `/backups/${body.backup_id}/cancel`)).status).toBe(202)
    await becomes(`/backups/${body.backup_id}`, 'status', 'cancelled')
    expect((await api.call('POST', `/backups/${body.backup_id}/cancel`)).body.error_code).toBe('BACKUP_NOT_RUNNING')
  })

  test('an incremental, verified', async () => {
    // The cancelled backup's workflow ends a moment after its row does.
    await expect.poll(async () => (await start({}, 'second')).status, { timeout: 60_000 }).toBe(202)
    const { body } = await start({}, 'second')
    incremental = body.backup_id
    expect(body.backup_type).toBe('incremental')
    await becomes(`/backups/${incremental}`, 'status', 'completed')
    expect((await api.call('POST', `/backups/${incremental}/verify`)).status).toBe(202)
    await becomes(`/backups/${incremental}`, 'verification_status', 'passed')
    const chain = await api.call('GET', `/backups/chain?vm_name=web&repository_id=${repositoryId}`)
    expect(chain.body['chain']).toMatchObject([
      { backup_id: full, is_restorable: true },
      { backup_id: incremental, parent_backup_id: full, is_restorable: true },
    ])
  })

  test('restored bit for bit, once, and never over a file', async () => {
    const target = join(holdfast.home, 'restored.raw')
    const restore = () => api.call('POST', `/backups/${incremental}/restore`, { body: { disk_index: 0, target_path: target } })
    const { status, body } = await restore()
    expect(status).toBe(202)
    await becomes(`/restores/${String(body['restore_id'])}`, 'status', 'completed')
    expect((await readFile(target)).equals(await readFile(image))).toBe(true)
    const again = await restore()
    expect([again.status, again.body.error_code]).toEqual([409, 'RESTORE_TARGET_EXISTS'])
  })

  test('deleted from the newest on', async () => {
    const early = await api.call('DELETE', `/backups/${full}`)
    expect([early.status, early.body.error_code]).toEqual([409, 'BACKUP_HAS_DEPENDENTS'])
    expect(JSON.stringify(early.body)).toContain(incremental)
    expect((await api.call('DELETE', `/backups/${incremental}`)).status).toBe(200)
    expect((await api.call('DELETE', `/backups/${full}`)).status).toBe(200)
    expect((await api.call('GET', `/backups/${full}`)).body.error_code).toBe('BACKUP_NOT_FOUND')
  })
})
