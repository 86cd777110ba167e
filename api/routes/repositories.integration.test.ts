import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../domain/errors.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertRepository } from '../../test/catalog-rows.ts'

interface RepositoryList {
  repositories: { id: string }[]
  next_cursor: string | null
}

let api: TestApi

beforeAll(async () => {
  api = await createTestApi()
  await insertRepository(api.catalog, 'repo-a', 'Alpha')
  await insertRepository(api.catalog, 'repo-b', 'Beta')
  await api.catalog
    .updateTable('backup_repositories')
    .set({
      enabled: false,
      total_size_bytes: 8e12,
      used_size_bytes: 2e12,
      available_size_bytes: 6e12,
      last_check_at: new Date('2026-02-01T00:00:00Z'),
    })
    .where('id', '=', 'repo-b')
    .execute()
})
afterAll(() => api?.drop())
beforeEach(() => api.operations.reset())

describe('looking', () => {
  test('lists them by name', async () => {
    const { status, body } = await api.call('GET', '/repositories')
    expect(status).toBe(200)
    expect(body).toMatchObject({
      success: true,
      count: 2,
      total_count: 2,
      next_cursor: null,
      repositories: [
        { id: 'repo-a', name: 'Alpha', type: 'local', enabled: true, is_immutable: false, config: { path: '/srv/repo-a' } },
        {
          id: 'repo-b',
          enabled: false,
          storage: {
            total_bytes: 8e12,
            used_bytes: 2e12,
            available_bytes: 6e12,
            used_percentage: 25,
            last_check_at: '2026-02-01T00:00:00.000Z',
          },
        },
      ],
    })
  })

  test('pages and filters', async () => {
    const first = await api.call<RepositoryList>('GET', '/repositories?limit=1')
    const second = await api.call<RepositoryList>('GET', `/repositories?limit=1&cursor=${first.body.next_cursor}`)
    expect([first, second].map(({ body }) => body.repositories[0]?.id)).toEqual(['repo-a', 'repo-b'])
    expect(second.body.next_cursor).toBeNull()
    const off = await api.call<RepositoryList>('GET', '/repositories?enabled=false')
    expect(off.body.repositories.map(({ id }) => id)).toEqual(['repo-b'])
  })

  test('one, or REPO_NOT_FOUND', async () => {
    expect((await api.call('GET', '/repositories/repo-a')).body).toMatchObject({ repository: { id: 'repo-a' } })
    const { status, body } = await api.call('GET', '/repositories/repo-z')
    expect([status, body.error_code, body['repository_id']]).toEqual([404, 'REPO_NOT_FOUND', 'repo-z'])
  })
})

describe('registering', () => {
  const request = { name: 'Gamma', type: 'local', config: { path: '/srv/gamma' } }

  test('asks the mover and answers with the space there is', async () => {
    const { status, body } = await api.call('POST', '/repositories', { body: { ...request, is_immutable: false } })
    expect(status).toBe(201)
    expect(body).toEqual({
      success: true,
      repository_id: expect.stringMatching(/^repo-[0-9a-z]{26}$/),
      message: 'Repository registered successfully',
      storage: { total_bytes: 1000, used_bytes: 400, available_bytes: 600, used_percentage: 40, writable: true },
    })
    expect(api.operations.calls).toEqual([
      {
        verb: 'registerRepository',
        args: [
          { repositoryId: body['repository_id'], name: 'Gamma', type: 'local', hostId: 'local', config: { path: '/srv/gamma' } },
        ],
      },
    ])
  })

  test('switched off from the beginning, when asked so', async () => {
    api.operations.answer({
      registerRepository: async ({ repositoryId }) => {
        await insertRepository(api.catalog, repositoryId, 'Delta')
        return { totalBytes: 1, usedBytes: 0, availableBytes: 1, totalInodes: 0, usedInodes: 0, writable: true }
      },
    })
    const { body } = await api.call('POST', '/repositories', {
      body: { name: 'Delta', type: 'local', enabled: false, config: { path: '/srv/delta' } },
    })
    const one = await api.call('GET', `/repositories/${String(body['repository_id'])}`)
    expect(one.body).toMatchObject({ repository: { enabled: false } })
  })

  test.each(['nfs', 'cifs', 'smb', 's3'])('%s: REPO_TYPE_UNSUPPORTED, and the password comes back nowhere', async (type) => {
    const config = { server: '10.0.0.1', username: 'me', password: 'canary-secret' }
    for (const [path, body] of [
      ['/repositories', { name: 'Share', type, config }],
      ['/repositories/test', { type, config }],
    ] as const) {
      const answer = await api.call('POST', path, { body })
      expect([answer.status, answer.body.error_code]).toEqual([400, 'REPO_TYPE_UNSUPPORTED'])
      expect(JSON.stringify(answer.body)).not.toContain('canary-secret')
    }
    expect(api.logs.join('')).not.toContain('canary-secret')
    expect(api.operations.calls).toEqual([])
  })

  test.each([
    ['an unknown type', { ...request, type: 'ftp' }],
    ['no name', { ...request, name: undefined }],
    ['no configuration', { ...request, config: undefined }],
    ['no path', { ...request, config: {} }],
    ['a relative path', { ...request, config: { path: 'srv' } }],
    ['the root', { ...request, config: { path: '/' } }],
    ['a path with ..', { ...request, config: { path: '/srv/../etc' } }],
    ['a path that is a list', { ...request, config: { path: ['/srv'] } }],
    ['a credential beside the path', { ...request, config: { path: '/srv/x', password: 'canary-secret' } }],
    ['immutability, which is not there', { ...request, is_immutable: true }],
    ['a configuration that is a list', { ...request, config: [] }],
    ['an unknown field', { ...request, retention: 3 }],
  ])('refuses %s: INVALID_REQUEST', async (_what, body) => {
    const answer = await api.call('POST', '/repositories', { body })
    expect([answer.status, answer.body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    expect(JSON.stringify(answer.body)).not.toContain('canary-secret')
    expect(api.operations.calls).toEqual([])
  })

  test.each([
    ['its name', { ...request, name: 'Alpha' }, 409, 'REPO_EXISTS'],
    ['its folder', { ...request, config: { path: '/srv/repo-a' } }, 409, 'REPO_EXISTS'],
    ['a folder inside it', { ...request, config: { path: '/srv/repo-a/more' } }, 422, 'REPO_INVALID'],
    ['a folder around it', { ...request, config: { path: '/srv' } }, 422, 'REPO_INVALID'],
  ])('refuses %s of another repository', async (_what, body, status, code) => {
    const answer = await api.call('POST', '/repositories', { body: { ...body, name: body.name } })
    expect([answer.status, answer.body.error_code, answer.body['repository_id']]).toEqual([status, code, expect.any(String)])
    expect(api.operations.calls).toEqual([])
  })

  test('the same folder on another host is another folder', async () => {
    const body = { ...request, name: 'Epsilon', host_id: 'host-2', config: { path: '/srv/repo-a' } }
    expect((await api.call('POST', '/repositories', { body })).status).toBe(201)
  })
})

describe('testing', () => {
  const storage = { total_bytes: 1000, used_bytes: 400, available_bytes: 600, used_percentage: 40, writable: true }

  test('a place that is not registered', async () => {
    const { status, body } = await api.call('POST', '/repositories/test', {
      body: { type: 'local', config: { path: '/srv/new' } },
    })
    expect([status, body]).toEqual([200, { success: true, message: 'Repository connection successful', storage }])
    expect(api.operations.calls[0]).toMatchObject({
      verb: 'testRepository',
      args: [{ type: 'local', config: { path: '/srv/new' } }],
    })
  })

  test('a registered one', async () => {
    const { status, body } = await api.call('POST', '/repositories/repo-a/test')
    expect([status, body]).toEqual([200, { success: true, message: 'Repository connection successful', storage }])
    expect(api.operations.calls).toEqual([
      {
        verb: 'testRepository',
        args: [{ repositoryId: 'repo-a', name: 'Alpha', type: 'local', hostId: 'local', config: { path: '/srv/repo-a' } }],
      },
    ])
  })

  test('says so when it cannot be written to', async () => {
    api.operations.answer({
      testRepository: async () => ({
        totalBytes: 1,
        usedBytes: 1,
        availableBytes: 0,
        totalInodes: 0,
        usedInodes: 0,
        writable: false,
      }),
    })
    const { body } = await api.call('POST', '/repositories/repo-a/test')
    expect(body).toMatchObject({ message: expect.stringContaining('not written'), storage: { writable: false } })
  })

  test('unknown: REPO_NOT_FOUND; away: REPO_UNAVAILABLE with Retry-After', async () => {
    expect((await api.call('POST', '/repositories/repo-z/test')).body.error_code).toBe('REPO_NOT_FOUND')
    api.operations.answer({
      testRepository: async () => {
        throw new HoldfastError('REPO_UNAVAILABLE', 'The folder does not answer.')
      },
    })
    const { status, body, headers } = await api.call('POST', '/repositories/repo-a/test')
    expect([status, body.error_code, headers.get('Retry-After')]).toEqual([503, 'REPO_UNAVAILABLE', '5'])
  })
})
