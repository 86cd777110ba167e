/** The bodies that the interface was promised with, word for word: requests are taken as they are, answers have every field. */
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { checkDeletable } from '../../db/queries/repository-records.ts'
import type { BackupRepositoriesTable } from '../../db/schema.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { JsonObject } from '../../domain/errors.ts'
import type { RepositoryFindings } from '../../temporal/operations.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertBackup, insertVm } from '../../test/catalog-rows.ts'
import { failureOf } from '../../test/failure.ts'
import { failureAnswer } from '../errors.ts'

interface Documented {
  request: JsonObject
  answer: JsonObject
  refusal: JsonObject
}

interface DocumentedRepository extends JsonObject {
  id: string
  name: string
  config: JsonObject
  created_at: string
  storage: { total_bytes: number; used_bytes: number; available_bytes: number; last_check_at: string; used_percentage: number }
}

let api: TestApi
let documented: Record<string, Documented> & { refusals: Record<string, JsonObject> }
let repositories: DocumentedRepository[]

beforeAll(async () => {
  documented = JSON.parse(await readFile(new URL('../../test/fixtures/documented-repositories.json', import.meta.url), 'utf8'))
  repositories = documented['list repositories']!.answer['repositories'] as DocumentedRepository[]
  api = await createTestApi()
  for (const repository of repositories) await insertDocumented(repository)
})
afterAll(() => api?.drop())
beforeEach(() => api.operations.reset())

async function insertDocumented({ id, name, type, config, storage, created_at, ...rest }: DocumentedRepository): Promise<void> {
  const immutable = rest['is_immutable'] === true
  await api.catalog
    .insertInto('backup_repositories')
    .values({
      id,
      name,
      repository_type: type as BackupRepositoriesTable['repository_type'],
      config: JSON.stringify(config),
      host_id: 'local',
      health: 'healthy',
      total_size_bytes: storage.total_bytes,
      used_size_bytes: storage.used_bytes,
      available_size_bytes: storage.available_bytes,
      last_check_at: new Date(storage.last_check_at),
      created_at: new Date(created_at),
      ...(immutable && {
        is_immutable: true,
        immutable_method: 'linux_chattr' as const,
        retention_period_days: 30,
        min_retention_days: 30,
        enforced_by: 'chattr' as const,
      }),
    })
    .execute()
}

/** The same kinds of values under the same names; more may stand beside them. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shapeOf)
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, shapeOf(part)]))
  const kind = [String, Number, Boolean].find((constructor) => Object(value) instanceof constructor)
  return expect.any(kind)
}

function found(total_bytes: number, available_bytes: number): RepositoryFindings {
  const usedBytes = total_bytes - available_bytes
  const inodes = { totalInodes: 0, usedInodes: 0 }
  return {
    storage: { totalBytes: total_bytes, availableBytes: available_bytes, usedBytes, ...inodes, writable: true },
    enforcement: null,
  }
}

test('the list', async () => {
  const { status, body } = await api.call<{ repositories: DocumentedRepository[] }>('GET', '/repositories')
  expect(status).toBe(200)
  const instant = (text: unknown): string => new Date(String(text)).toISOString()
  for (const { updated_at, ...expected } of repositories) {
    const real = body.repositories.find(({ id }) => id === expected.id)
    expect(real).toMatchObject({
      ...expected,
      created_at: instant(expected.created_at),
      storage: { ...expected.storage, last_check_at: instant(expected.storage.last_check_at) },
    })
    expect(real?.['updated_at']).toEqual(shapeOf(updated_at))
  }
})

test('registering', async () => {
  const { request, answer } = documented['register a repository']!
  api.operations.answer({ registerRepository: async () => found(2_147_483_648_000, 2_147_483_648_000) })
  const { status, body } = await api.call('POST', '/repositories', { body: request })
  expect(status).toBe(201)
  expect(body).toMatchObject({ ...answer, repository_id: expect.stringMatching(/^repo-/) })
  expect(JSON.stringify(body)).not.toContain('secure_password')
})

test('testing a place', async () => {
  const { request, answer } = documented['test a place']!
  api.operations.answer({ testRepository: async () => found(5_368_709_120_000, 4_294_967_296_000) })
  const { status, body } = await api.call('POST', '/repositories/test', { body: request })
  expect([status, body]).toMatchObject([200, answer])
})

test('changing', async () => {
  const { request, answer } = documented['change a repository']!
  const { status, body } = await api.call('PATCH', '/repositories/repo-nfs-1638547300', { body: request })
  expect([status, body]).toMatchObject([200, answer])
  const { id, name } = repositories[1]!
  await api.call('PATCH', `/repositories/${id}`, { body: { name, enabled: true } })
})

test('refreshing the storage, and its summary', async () => {
  const refreshed = await api.call('POST', '/repositories/refresh-storage')
  expect([refreshed.status, refreshed.body]).toMatchObject([200, shapeOf(documented['refresh storage']!.answer)])
  const { status, body } = await api.call('GET', '/repositories/storage-summary')
  expect([status, body]).toMatchObject([200, shapeOf(documented['storage summary']!.answer)])
})

test('deleting, and its refusal', async () => {
  const { answer, refusal } = documented['delete a repository']!
  const [{ id } = { id: '' }] = repositories
  const { status, body } = await api.call('DELETE', `/repositories/${id}`)
  expect([status, body]).toMatchObject([200, answer])
  await insertVm(api.catalog, 'ctx-1')
  for (let index = 0; index < 42; index += 1)
    await insertBackup(api.catalog, { id: `backup-${index}`, vm_context_id: 'ctx-1', repository_id: id })
  const error = await failureOf(checkDeletable(api.catalog, id))
  expect(failureAnswer(error)).toMatchObject(refusal)
})

test('refusals', async () => {
  const missing = await api.call('GET', '/repositories/repo-none')
  expect([missing.status, missing.body]).toMatchObject([404, shapeOf(documented.refusals['REPO_NOT_FOUND'])])
  api.operations.answer({
    testRepository: async () => {
      throw new HoldfastError('CONNECTION_FAILED', 'The server does not answer.')
    },
  })
  const { request } = documented['test a place']!
  const refused = await api.call('POST', '/repositories/test', { body: request })
  expect([refused.status, refused.body]).toMatchObject([422, shapeOf(documented.refusals['CONNECTION_FAILED'])])
  expect(refused.body.error_code).toBe('CONNECTION_FAILED')
})
