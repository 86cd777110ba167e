import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../domain/errors.ts'
import type { ErrorCode } from '../../domain/errors.ts'
import { sealCredentials, unsealCredentials } from '../../security/sealed-credentials.ts'
import type { ChangeRepositoryRequest, Operations } from '../../temporal/operations.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertRepository } from '../../test/catalog-rows.ts'

const canary = 'canary-c03d18'
const share = { server: 'nas', share_name: 'kept', domain: null, username: 'me', mount_options: [] }
let api: TestApi
let credentialsId: string

beforeAll(async () => {
  api = await createTestApi()
  await insertRepository(api.catalog, 'repo-a', 'Alpha')
  await insertRepository(api.catalog, 'repo-b', 'Beta')
})
afterAll(() => api?.drop())
beforeEach(async () => {
  api.operations.reset()
  await api.catalog.deleteFrom('backup_repositories').where('id', '=', 'repo-s').execute()
  await api.catalog.deleteFrom('sealed_credentials').execute()
  credentialsId = await sealCredentials(api.catalog, api.keysFolder, { password: canary })
  const row = { id: 'repo-s', name: 'Share', repository_type: 'cifs', host_id: 'local', credentials_id: credentialsId } as const
  await api.catalog
    .insertInto('backup_repositories')
    .values({ ...row, config: JSON.stringify(share) })
    .execute()
})

const changeTo = (body: object, id = 'repo-s') => api.call('PATCH', `/repositories/${id}`, { body })
const asked = () =>
  api.operations.calls.map(({ verb, args: [first] }) => ({ verb, ...(first as Partial<ChangeRepositoryRequest>) }))
const credentials = async () => (await api.catalog.selectFrom('sealed_credentials').select('id').execute()).map(({ id }) => id)

function refusing(verb: keyof Operations, code: ErrorCode, details = {}): void {
  const refuse = async () => {
    throw new HoldfastError(code, 'Refused.', { details })
  }
  api.operations.answer({ [verb]: refuse })
}

describe('settings', () => {
  test('are changed in the catalog alone, and what is not given stays', async () => {
    const first = await changeTo({ name: 'Old share (disabled)', enabled: false, thresholds: { critical_percent: 97 } })
    expect([first.status, first.body]).toMatchObject([
      200,
      {
        message: 'Repository updated successfully',
        repository_id: 'repo-s',
        repository: {
          name: 'Old share (disabled)',
          enabled: false,
          accepts_backups: false,
          thresholds: { warning_percent: 90, critical_percent: 97 },
          config: { server: 'nas', password_set: true },
        },
      },
    ])
    const second = await changeTo({ auto_mount: false, thresholds: { warning_percent: 85 }, min_retention_days: 7 })
    expect(second.body).toMatchObject({
      repository: {
        name: 'Old share (disabled)',
        auto_mount: false,
        thresholds: { warning_percent: 85, critical_percent: 97 },
        min_retention_days: 7,
      },
    })
    const third = await changeTo({ thresholds: null, min_retention_days: null, enabled: true })
    expect(third.body).toMatchObject({
      repository: { enabled: true, thresholds: { warning_percent: 90, critical_percent: 95 }, min_retention_days: null },
    })
    expect(api.operations.calls).toEqual([])
  })

  test('of immutability are tried where the repository lies; what is off makes no new locks', async () => {
    await changeTo({ is_immutable: true, immutable_config: { retention_period_days: 30 } })
    const immutability = { method: 'linux_chattr', retentionPeriodDays: 30 }
    expect(asked()).toEqual([{ verb: 'changeRepository', repositoryId: 'repo-s', hostId: 'local', settings: { immutability } }])
    await api.catalog
      .updateTable('backup_repositories')
      .set({ is_immutable: true, immutable_method: 'linux_chattr', retention_period_days: 30, enforced_by: 'chattr' })
      .where('id', '=', 'repo-s')
      .execute()
    const shown = await api.call('GET', '/repositories/repo-s')
    expect(shown.body).toMatchObject({
      repository: { is_immutable: true, immutable_config: { retention_period_days: 30, locked: true, enforced_by: 'chattr' } },
    })
    const off = await changeTo({ is_immutable: false })
    expect(off.body).toMatchObject({ repository: { is_immutable: false, immutable_config: null } })
  })

  test.each([
    ['nothing', {}],
    ['its type', { type: 'nfs' }],
    ['its host', { host_id: 'host-2' }],
    ['its id', { id: 'repo-x' }],
    ['what is computed', { stopped_at: null }],
    ['thresholds the wrong way round', { thresholds: { warning_percent: 95 } }],
    ['immutability without days', { is_immutable: true }],
    ['days without immutability', { immutable_config: { retention_period_days: 3 } }],
    ['a name with a line break', { name: 'a\nb' }],
  ])('refuses %s: INVALID_REQUEST', async (_what, body) => {
    const before = await api.call('GET', '/repositories/repo-s')
    const answer = await changeTo(body)
    expect([answer.status, answer.body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    expect((await api.call('GET', '/repositories/repo-s')).body['repository']).toEqual(before.body['repository'])
    expect(api.operations.calls).toEqual([])
  })

  test("refuses another's name and place, and what is not there", async () => {
    expect((await changeTo({ name: 'Alpha' })).body).toMatchObject({ error_code: 'REPO_EXISTS', repository_id: 'repo-a' })
    const folder = await changeTo({ config: { path: '/srv/repo-a/in' } }, 'repo-b')
    expect(folder.body).toMatchObject({ error_code: 'REPO_INVALID', repository_id: 'repo-a' })
    expect((await changeTo({ enabled: true }, 'repo-z')).body.error_code).toBe('REPO_NOT_FOUND')
    expect(api.operations.calls).toEqual([])
  })
})

test('a name is the same however its letters are written', async () => {
  await changeTo({ name: 'B\u00FCro' }, 'repo-b')
  const { status, body } = await changeTo({ name: 'BU\u0308RO' })
  await changeTo({ name: 'Beta' }, 'repo-b')
  expect([status, body]).toMatchObject([409, { error_code: 'REPO_EXISTS', repository_id: 'repo-b' }])
  expect((await changeTo({ name: 'BETA' }, 'repo-b')).status, 'its own is in nobody’s way').toBe(200)
  await changeTo({ name: 'Beta' }, 'repo-b')
})

test('what a repository has already keeps nobody from switching it off', async () => {
  await insertRepository(api.catalog, 'repo-in', 'ALPHA')
  const inside = { config: JSON.stringify({ path: '/srv/repo-a/in' }) }
  await api.catalog.updateTable('backup_repositories').set(inside).where('id', '=', 'repo-in').execute()
  const answers = [
    await changeTo({ enabled: false }, 'repo-in'),
    await changeTo({ name: 'Inside' }, 'repo-in'),
    await changeTo({ config: { path: '/srv/repo-b/in' } }, 'repo-in'),
  ]
  await api.catalog.deleteFrom('backup_repositories').where('id', '=', 'repo-in').execute()
  expect(answers.map(({ status, body }) => [status, body['repository_id']])).toEqual([
    [200, 'repo-in'],
    [200, 'repo-in'],
    [422, 'repo-b'],
  ])
})

describe('a new place', () => {
  test('is tried by the mover; the stored password goes on where its account does', async () => {
    await changeTo({ config: { mount_options: ['vers=3.1.1'] } })
    const config = { ...share, mount_options: ['vers=3.1.1'] }
    expect(asked()).toMatchObject([{ verb: 'changeRepository', place: { config, credentialsId } }])
    expect(await credentials()).toEqual([credentialsId])
  })

  test('that is the old one is no change', async () => {
    expect((await changeTo({ config: { server: 'NAS', share_name: 'kept' } })).status).toBe(200)
    expect(api.operations.calls).toEqual([])
  })

  test('with a new password: sealed before it travels, and shown nowhere', async () => {
    const { status, body } = await changeTo({ config: { password: `${canary}-2` } })
    expect(status).toBe(200)
    const sealed = asked()[0]?.place?.credentialsId ?? ''
    expect(sealed).not.toBe(credentialsId)
    expect(await unsealCredentials(api.catalog, api.keysFolder, sealed)).toEqual({ password: `${canary}-2` })
    const events = await api.call('GET', '/audit?subject_id=repo-s&limit=1')
    expect(events.body).toMatchObject({ events: [{ action: 'repository.change', details: { config: { password: 'given' } } }] })
    for (const text of [JSON.stringify([body, asked(), events.body]), ...api.logs]) expect(text).not.toContain(canary)
  })

  test.each([
    ['another server', { server: 'elsewhere' }],
    ['another account', { username: 'you' }],
    ['no password', { password: null }],
    ['a password that mount.cifs would cut off', { password: `${canary}\n` }],
    ['a field of another type', { path: '/srv/x' }],
  ])('refuses %s with the old password: INVALID_REQUEST', async (_what, config) => {
    const { status, body } = await changeTo({ config })
    expect([status, body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    expect(JSON.stringify(body)).not.toContain(canary)
    expect(api.operations.calls).toEqual([])
    expect(await credentials()).toEqual([credentialsId])
  })

  test('as guest: no password any more', async () => {
    await changeTo({ config: { username: null } })
    expect(asked()).toMatchObject([{ place: { config: { username: null }, credentialsId: null } }])
  })

  test('while another change runs: REPO_BUSY, and the new password is forgotten', async () => {
    refusing('changeRepository', 'REPO_BUSY')
    const { status, body } = await changeTo({ config: { password: 'another' } })
    expect([status, body.error_code]).toEqual([409, 'REPO_BUSY'])
    expect(await credentials()).toEqual([credentialsId])
  })
})

describe('deleting', () => {
  const remove = (query = '', id = 'repo-s') => api.call('DELETE', `/repositories/${id}${query}`)

  test('is for the mover, and answers as documented', async () => {
    const { status, body } = await remove()
    expect([status, body]).toEqual([
      200,
      { success: true, repository_id: 'repo-s', message: 'Repository deleted successfully', cleared: true },
    ])
    expect(api.operations.calls).toEqual([
      { verb: 'deleteRepository', args: [{ repositoryId: 'repo-s', hostId: 'local' }, { force: false }] },
    ])
    await remove('?force=true')
    expect(api.operations.calls.at(-1)).toMatchObject({ args: [{}, { force: true }] })
  })

  test('is refused while it has backups', async () => {
    refusing('deleteRepository', 'REPO_IN_USE', { backup_count: 42 })
    const { status, body } = await remove()
    expect([status, body]).toMatchObject([409, { error_code: 'REPO_IN_USE', backup_count: 42 }])
  })

  test.each(['CONNECTION_FAILED', 'REPO_INVALID'] as const)(
    'of a place that fails with %s says how it can be done',
    async (code) => {
      refusing('deleteRepository', code)
      const { status, body } = await remove()
      expect([status, body.error]).toEqual([422, expect.stringContaining('force=true')])
    },
  )
})

describe('mounting and unmounting', () => {
  test('answer with what is mounted where', async () => {
    const mounted = await api.call('POST', '/repositories/repo-s/mount')
    expect(mounted.body).toEqual({
      success: true,
      repository_id: 'repo-s',
      message: 'Repository mounted',
      mounted: true,
      mount_point: '/mounts/x',
      source: 'nas:/x',
      file_system: 'nfs4',
    })
    const unmounted = await api.call('POST', '/repositories/repo-s/unmount?force=true')
    expect(unmounted.body).toMatchObject({ mounted: false, mount_point: null })
    expect(api.operations.calls).toMatchObject([
      { verb: 'mountRepository', args: [{ repositoryId: 'repo-s', hostId: 'local' }] },
      { verb: 'unmountRepository', args: [{ repositoryId: 'repo-s', hostId: 'local' }, { force: true }] },
    ])
  })

  test('are refused for a folder, and while it is in use', async () => {
    expect((await api.call('POST', '/repositories/repo-a/mount')).body.error_code).toBe('REPO_INVALID')
    refusing('unmountRepository', 'REPO_IN_USE')
    const { status, body } = await api.call('POST', '/repositories/repo-s/unmount')
    expect([status, body.error_code]).toEqual([409, 'REPO_IN_USE'])
  })
})

test.each([
  ['PATCH', '/repositories/repo-s', { enabled: false }],
  ['DELETE', '/repositories/repo-s', undefined],
  ['POST', '/repositories/repo-s/mount', undefined],
  ['POST', '/repositories/repo-s/unmount', undefined],
])('%s %s is for admins', async (method, path, body) => {
  const answer = await api.call(method, path, { as: 'operator', ...(body && { body }) })
  expect([answer.status, answer.body.error_code]).toEqual([403, 'FORBIDDEN'])
  expect(api.operations.calls).toEqual([])
})

test('everything that was done is in the audit trail', async () => {
  for (const [method, path] of [
    ['POST', '/repositories/repo-s/test'],
    ['POST', '/repositories/repo-s/mount'],
    ['POST', '/repositories/repo-s/unmount'],
    ['DELETE', '/repositories/repo-s'],
  ] as const)
    await api.call(method, path)
  const { body } = await api.call<{ events: { action: string }[] }>('GET', '/audit?subject_id=repo-s&limit=4')
  expect(body.events.map(({ action }) => action)).toEqual([
    'repository.delete',
    'repository.unmount',
    'repository.mount',
    'repository.test',
  ])
})
