/** Repositories through the whole product: real API, Temporal, workers, MariaDB and folders. */
import { existsSync } from 'node:fs'
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTestApi } from '../test/api-app.ts'
import type { TestApi } from '../test/api-app.ts'
import { insertBackup, insertVm } from '../test/catalog-rows.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'

let holdfast: HoldfastProcesses
let api: TestApi

beforeAll(async () => {
  holdfast = await createHoldfastProcesses()
  api = await createTestApi({ real: holdfast })
  await holdfast.client.schedule.getHandle('reconcile').pause()
})
afterAll(async () => {
  await api?.drop()
  await holdfast?.close()
})

/** The answer's body, with its status. */
async function call(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
  const answer = await api.call(method, path, body && { body })
  return { ...answer.body, http: answer.status }
}

async function newFolder(name: string): Promise<string> {
  const path = join(holdfast.home, 'places', name)
  await mkdir(path, { recursive: true })
  return path
}

const register = (name: string, path: string, more = {}) =>
  call('POST', '/repositories', { name, type: 'local', config: { path }, ...more })

async function registered(name: string): Promise<{ id: string; path: string }> {
  const path = await newFolder(name)
  const { http, repository_id: id } = await register(name, path)
  expect(http).toBe(201)
  return { id: String(id), path }
}

const marker = (path: string) => join(path, 'holdfast-repository.json')

describe('a folder', () => {
  test('is tested, made a repository and recorded', async () => {
    const path = await newFolder('first')
    const answer = await register('first', path, { thresholds: { warning_percent: 80, critical_percent: 99 } })
    expect(answer).toMatchObject({ http: 201, storage: { writable: true, total_bytes: expect.any(Number) }, immutability: null })
    const id = String(answer['repository_id'])
    expect(JSON.parse(await readFile(marker(path), 'utf8'))).toMatchObject({ id })
    const shown = await call('GET', `/repositories/${id}`)
    expect(shown['repository']).toMatchObject({
      thresholds: { warning_percent: 80 },
      storage: { used_bytes: expect.any(Number) },
    })
    expect(await call('POST', `/repositories/${id}/test`)).toMatchObject({
      http: 200,
      message: 'Repository connection successful',
    })
    expect(await call('GET', `/repositories/${id}`)).toMatchObject({ http: 200 })
  })

  test('that is only tested is left as it was', async () => {
    const path = await newFolder('tested')
    const place = { type: 'local', config: { path }, is_immutable: true }
    const answer = await call('POST', '/repositories/test', place)
    expect(answer).toMatchObject({ http: 200, storage: { writable: true }, immutability: { enforced_by: expect.any(String) } })
    expect(await readdir(path)).toEqual([])
    const gone = { type: 'local', config: { path: `${path}/gone` } }
    expect(await call('POST', '/repositories/test', gone)).toMatchObject({ http: 503, error_code: 'REPO_UNAVAILABLE' })
    expect(existsSync(`${path}/gone`)).toBe(false)
  })

  test('that is refused is left as it was', async () => {
    const path = await newFolder('foreign')
    await writeFile(join(path, 'holiday.jpg'), 'x')
    expect(await register('foreign', path)).toMatchObject({ http: 422, error_code: 'REPO_INVALID' })
    expect(await readdir(path)).toEqual(['holiday.jpg'])
    const { path: taken } = await registered('taken')
    await holdfast.catalog.deleteFrom('backup_repositories').where('name', '=', 'taken').execute()
    const before = await readFile(marker(taken), 'utf8')
    expect(await register('taken again', taken)).toMatchObject({ http: 422, error_code: 'REPO_INVALID' })
    expect(await readFile(marker(taken), 'utf8')).toBe(before)
    const mounts = join(holdfast.home, 'mounts', 'mine')
    expect(await register('in the mounts', mounts)).toMatchObject({ http: 422, error_code: 'REPO_INVALID' })
    expect(existsSync(mounts)).toBe(false)
    expect(await call('GET', '/repositories')).toMatchObject({ total_count: 1 })
  })

  test('where nothing can be locked is not registered as immutable', async () => {
    // Memory takes no immutable files.
    const path = `/dev/shm/holdfast-${process.pid}-memory`
    await mkdir(path)
    try {
      const immutable = { is_immutable: true, immutable_config: { retention_period_days: 1 } }
      expect(await register('memory', path, immutable)).toMatchObject({
        http: 422,
        error_code: 'IMMUTABILITY_UNSUPPORTED',
        enforced_by: 'none',
        reason: expect.stringMatching(/./),
      })
      expect(await readdir(path)).toEqual([])
    } finally {
      await rm(path, { recursive: true })
    }
  })
})

describe('a registered one', () => {
  test('goes where its own files went, and nowhere else', async () => {
    const { id, path } = await registered('moving')
    const elsewhere = await newFolder('elsewhere')
    const { path: others } = await registered('others')
    for (const other of [elsewhere, `${path}-gone`])
      expect(await call('PATCH', `/repositories/${id}`, { config: { path: other } })).toMatchObject({
        error_code: 'REPO_INVALID',
      })
    expect(await readdir(elsewhere)).toEqual([])
    expect(await call('PATCH', `/repositories/${id}`, { config: { path: others } })).toMatchObject({ error_code: 'REPO_EXISTS' })
    await rename(path, `${path}-moved`)
    const moved = await call('PATCH', `/repositories/${id}`, { config: { path: `${path}-moved` }, name: 'moved' })
    expect(moved).toMatchObject({ http: 200, repository: { name: 'moved', config: { path: `${path}-moved` } } })
    expect(await call('POST', `/repositories/${id}/test`)).toMatchObject({ http: 200 })
    expect(existsSync(path)).toBe(false)
  })

  test('with a backup stays; without one its folder can be used again', async () => {
    const { id, path } = await registered('leaving')
    await insertVm(holdfast.catalog, 'ctx-1')
    for (const [index, status] of (['completed', 'failed', 'cancelled'] as const).entries())
      await insertBackup(holdfast.catalog, { id: `backup-${index}`, vm_context_id: 'ctx-1', repository_id: id, status })
    expect(await call('DELETE', `/repositories/${id}`)).toMatchObject({
      http: 409,
      error: 'cannot delete repository with 1 existing backup',
      error_code: 'REPO_IN_USE',
      backup_count: 1,
    })
    expect(existsSync(marker(path))).toBe(true)
    await holdfast.catalog.deleteFrom('backup_jobs').where('id', '=', 'backup-0').execute()
    expect(await call('DELETE', `/repositories/${id}`)).toMatchObject({ http: 200, cleared: true })
    expect(await readdir(path)).toEqual([])
    expect(await call('GET', `/repositories/${id}`)).toMatchObject({ error_code: 'REPO_NOT_FOUND' })
    expect(await register('come again', path)).toMatchObject({ http: 201 })
  })

  test('keeps files that nobody knows of; what does not answer goes by force only', async () => {
    const { id, path } = await registered('kept')
    await mkdir(join(path, 'vms/web--1/backup-x'), { recursive: true })
    expect(await call('DELETE', `/repositories/${id}`)).toMatchObject({ http: 200, cleared: false })
    expect(existsSync(join(path, 'vms/web--1/backup-x'))).toBe(true)
    const gone = await registered('gone')
    await rm(gone.path, { recursive: true })
    expect(await call('DELETE', `/repositories/${gone.id}`)).toMatchObject({
      http: 503,
      error_code: 'REPO_UNAVAILABLE',
      error: expect.stringContaining('force=true'),
    })
    expect(await call('DELETE', `/repositories/${gone.id}?force=true`)).toMatchObject({ http: 200, cleared: false })
  })
})
