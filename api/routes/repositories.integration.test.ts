import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../domain/errors.ts'
import { sealCredentials, unsealCredentials } from '../../security/sealed-credentials.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertRepository } from '../../test/catalog-rows.ts'

interface RepositoryList {
  repositories: { id: string }[]
  next_cursor: string | null
}

const space = { totalBytes: 1000, usedBytes: 400, availableBytes: 600, totalInodes: 0, usedInodes: 0, writable: true }
const storage = { total_bytes: 1000, used_bytes: 400, available_bytes: 600, used_percentage: 40, writable: true }
const canary = 'canary-71e5b0'
let api: TestApi

beforeAll(async () => {
  api = await createTestApi()
  await insertRepository(api.catalog, 'repo-a', 'Alpha')
  await insertRepository(api.catalog, 'repo-b', 'Beta')
  await insertShare('repo-c', 'Gamma share', 'cifs', { server: 'nas', share_name: 'kept', username: 'me' })
  await insertShare('repo-n', 'Nu', 'nfs', { server: 'nas', export_path: '/kept' })
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

async function insertShare(id: string, name: string, repository_type: 'nfs' | 'cifs', config: object): Promise<void> {
  const row = { id, name, repository_type, config: JSON.stringify(config), host_id: 'local' }
  const credentials_id =
    repository_type === 'cifs' ? await sealCredentials(api.catalog, api.keysFolder, { password: canary }) : null
  await api.catalog
    .insertInto('backup_repositories')
    .values({ ...row, credentials_id })
    .execute()
}

describe('looking', () => {
  test('lists them by name', async () => {
    const { status, body } = await api.call('GET', '/repositories')
    expect(status).toBe(200)
    expect(body).toMatchObject({
      success: true,
      count: 4,
      total_count: 4,
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
        { id: 'repo-c', config: { server: 'nas', share_name: 'kept', username: 'me', password_set: true } },
        { id: 'repo-n', config: { server: 'nas', export_path: '/kept' } },
      ],
    })
  })

  test('pages and filters', async () => {
    const first = await api.call<RepositoryList>('GET', '/repositories?limit=1')
    const second = await api.call<RepositoryList>('GET', `/repositories?limit=1&cursor=${first.body.next_cursor}`)
    expect([first, second].map(({ body }) => body.repositories[0]?.id)).toEqual(['repo-a', 'repo-b'])
    const off = await api.call<RepositoryList>('GET', '/repositories?enabled=false')
    expect(off.body.repositories.map(({ id }) => id)).toEqual(['repo-b'])
  })

  test.each([
    ['type=nfs', ['repo-n']],
    ['type=local&enabled=true', ['repo-a']],
    ['health=unknown&host_id=local', ['repo-a', 'repo-b', 'repo-c', 'repo-n']],
    ['health=offline', []],
    ['host_id=elsewhere', []],
  ])('finds those of %s', async (query, ids) => {
    const { body } = await api.call<RepositoryList>('GET', `/repositories?${query}`)
    expect(body.repositories.map(({ id }) => id)).toEqual(ids)
  })

  test('shows nothing of a password but that there is one', async () => {
    const { body } = await api.call('GET', '/repositories/repo-c')
    expect(body).toMatchObject({ repository: { config: { password_set: true } } })
    expect(JSON.stringify(body)).not.toMatch(/canary|credentials/)
  })

  test.each([
    ['it is stopped', { stopped_at: new Date('2026-02-01T00:00:00Z') }, { stopped_at: '2026-02-01T00:00:00.000Z' }],
    [
      'it is offline',
      { health: 'offline' as const, health_message: 'no answer' },
      { health_status: 'offline', health_message: 'no answer' },
    ],
    ['it is switched off', { enabled: false }, { enabled: false }],
  ])('says that it takes no backups while %s', async (_why, row, shown) => {
    const before = { stopped_at: null, health: 'unknown' as const, health_message: null, enabled: true }
    await api.catalog.updateTable('backup_repositories').set(row).where('id', '=', 'repo-n').execute()
    const { body } = await api.call('GET', '/repositories/repo-n')
    await api.catalog.updateTable('backup_repositories').set(before).where('id', '=', 'repo-n').execute()
    expect(body).toMatchObject({ repository: { accepts_backups: false, ...shown } })
  })

  describe('what a look found long ago', () => {
    const ago = (minutes: number) => new Date(api.clock.now.getTime() - minutes * 60_000)
    const found = (health: 'healthy' | 'critical', minutes: number, more = {}) =>
      api.catalog
        .updateTable('backup_repositories')
        .set({ health, health_since: ago(900), last_check_at: ago(minutes), ...more })
        .where('id', '=', 'repo-n')
        .execute()
    const shown = async () =>
      (await api.call<{ repository: Record<string, unknown> }>('GET', '/repositories/repo-n')).body.repository
    const idsOf = async (health: string) =>
      (await api.call<RepositoryList>('GET', `/repositories?type=nfs&health=${health}`)).body.repositories.map(({ id }) => id)
    afterEach(() => found('healthy', 0, { health: 'unknown', health_since: null, last_check_at: null, enabled: true }))

    test('is believed for three intervals, and found under that word', async () => {
      await found('healthy', 14)
      expect(await shown()).toMatchObject({ health_status: 'healthy', health_message: null, accepts_backups: true })
      expect([await idsOf('healthy'), await idsOf('unknown')]).toEqual([['repo-n'], []])
    })

    test('is no longer claimed after that: nobody knows that all is well', async () => {
      await found('healthy', 16)
      const since = ago(16).toISOString()
      expect(await shown()).toMatchObject({
        health_status: 'unknown',
        health_message: `Nobody has looked at it since ${since}. Check that a control worker runs.`,
        health_since: since,
        accepts_backups: true,
      })
      expect([await idsOf('healthy'), await idsOf('unknown')]).toEqual([[], ['repo-n']])
      await found('healthy', 16, { enabled: false })
      expect(await shown()).toMatchObject({ health_message: expect.stringContaining('switched off is not looked at') })
    })

    test('stays when it was bad', async () => {
      await found('critical', 5_000)
      expect(await shown()).toMatchObject({ health_status: 'critical' })
      expect([await idsOf('critical'), await idsOf('unknown')]).toEqual([['repo-n'], []])
    })
  })

  test('one, or REPO_NOT_FOUND', async () => {
    expect((await api.call('GET', '/repositories/repo-a')).body).toMatchObject({ repository: { id: 'repo-a' } })
    const { status, body } = await api.call('GET', '/repositories/repo-z')
    expect([status, body.error_code, body['repository_id']]).toEqual([404, 'REPO_NOT_FOUND', 'repo-z'])
  })
})

describe('registering', () => {
  const request = { name: 'Gamma', type: 'local', config: { path: '/srv/gamma' } }
  const share = { server: 'NAS.example.com', share_name: 'backups', username: 'backup_user', password: canary }
  const registerWith = (body: object, headers = {}) => api.call('POST', '/repositories', { body, headers })
  const asked = () => api.operations.calls.map(({ args: [first] }) => first)

  test('asks the mover and answers with the space there is', async () => {
    const { status, body } = await registerWith({ ...request, is_immutable: false })
    expect([status, body]).toEqual([
      201,
      {
        success: true,
        repository_id: expect.stringMatching(/^repo-[0-9a-z]{26}$/),
        message: 'Repository registered successfully',
        storage,
        immutability: null,
      },
    ])
    const settings = { enabled: true, autoMount: true, thresholds: null, immutability: null, minRetentionDays: null }
    const place = { name: 'Gamma', type: 'local', hostId: 'local', config: { path: '/srv/gamma' }, credentialsId: null }
    expect(asked()).toEqual([{ repositoryId: body['repository_id'], ...place, settings }])
  })

  test('with everything that can be decided', async () => {
    await registerWith({
      ...request,
      enabled: false,
      auto_mount: false,
      thresholds: { warning_percent: 80 },
      is_immutable: true,
      immutable_config: { retention_period_days: 30 },
      min_retention_days: 7,
    })
    expect(asked()).toMatchObject([
      {
        settings: {
          enabled: false,
          autoMount: false,
          thresholds: { warningPercent: 80, criticalPercent: 95 },
          immutability: { method: 'linux_chattr', retentionPeriodDays: 30 },
          minRetentionDays: 7,
        },
      },
    ])
  })

  test('what was tried of immutability is said, and refused with its reason', async () => {
    api.operations.answer({
      registerRepository: async () => ({ storage: space, enforcement: { enforcedBy: 'chattr', reason: null } }),
    })
    expect((await registerWith(request)).body).toMatchObject({ immutability: { enforced_by: 'chattr', reason: null } })
    api.operations.answer({
      registerRepository: async () => {
        throw new HoldfastError('IMMUTABILITY_UNSUPPORTED', 'No.', { details: { enforced_by: 'none', reason: 'tmpfs' } })
      },
    })
    const { status, body } = await registerWith(request)
    expect([status, body]).toMatchObject([422, { error_code: 'IMMUTABILITY_UNSUPPORTED', enforced_by: 'none', reason: 'tmpfs' }])
  })

  test.each(['cifs', 'smb'])('a share of type %s: the password is sealed, and only a reference travels', async (type) => {
    const headers = { 'Idempotency-Key': `share-${type}` }
    const answers = [
      await registerWith({ name: 'Share', type, config: share }, headers),
      await registerWith({ name: 'Share', type, config: share }, headers),
    ]
    expect(answers.map(({ status }) => status)).toEqual([201, 201])
    expect(asked()).toEqual([
      expect.objectContaining({
        type,
        config: { server: 'nas.example.com', share_name: 'backups', domain: null, username: 'backup_user', mount_options: [] },
        credentialsId: expect.stringMatching(/^credentials-/),
      }),
    ])
    const [{ credentialsId }] = asked() as [{ credentialsId: string }]
    expect(await unsealCredentials(api.catalog, api.keysFolder, credentialsId)).toEqual({ password: canary })
    await expectNoCanary(answers)
  })

  test('an NFS share needs no password, and a guest has none', async () => {
    const nfs = { server: 'fd00::1', export_path: '/exports/backups/', mount_options: ['vers=4.2'] }
    expect((await registerWith({ name: 'N', type: 'nfs', config: nfs })).status).toBe(201)
    expect((await registerWith({ name: 'G', type: 'cifs', config: { server: 'nas', share_name: 'open' } })).status).toBe(201)
    expect(asked()).toMatchObject([
      { config: { server: 'fd00::1', export_path: '/exports/backups' }, credentialsId: null },
      { config: { server: 'nas', username: null }, credentialsId: null },
    ])
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
    ['a password beside a path', { ...request, config: { path: '/srv/x', password: canary } }],
    ['a password for NFS', { ...request, type: 'nfs', config: { server: 'nas', export_path: '/x', password: canary } }],
    ['an account without its password', { ...request, type: 'cifs', config: { ...share, password: undefined } }],
    ['a password without its account', { ...request, type: 'cifs', config: { ...share, username: undefined } }],
    ['a password that is a list', { ...request, type: 'cifs', config: { ...share, password: [canary] } }],
    ['a password with a line break', { ...request, type: 'cifs', config: { ...share, password: `${canary}\nx` } }],
    ['an endless password', { ...request, type: 'cifs', config: { ...share, password: canary.repeat(99) } }],
    ['credentials apart', { ...request, type: 'cifs', config: share, credentials: { password: canary } }],
    ['immutability without its days', { ...request, is_immutable: true }],
    ['days without immutability', { ...request, immutable_config: { retention_period_days: 3 } }],
    ['an unknown method', { ...request, is_immutable: true, immutable_config: { method: 'worm', retention_period_days: 3 } }],
    ['a lock for ever', { ...request, is_immutable: true, immutable_config: { retention_period_days: 40_000 } }],
    ['thresholds the wrong way round', { ...request, thresholds: { warning_percent: 96 } }],
    ['thresholds that are one', { ...request, thresholds: { warning_percent: 90, critical_percent: 90 } }],
    ['a threshold that warns always', { ...request, thresholds: { warning_percent: 10 } }],
    ['a configuration that is a list', { ...request, config: [] }],
    ['an unknown field', { ...request, retention: 3 }],
  ])('refuses %s: INVALID_REQUEST', async (_what, body) => {
    const answer = await registerWith(body)
    expect([answer.status, answer.body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    expect(api.operations.calls).toEqual([])
    await expectNoCanary([answer])
  })

  test('refuses what is not offered: REPO_TYPE_UNSUPPORTED', async () => {
    const answer = await registerWith({ name: 'S3', type: 's3', config: { bucket: 'x', password: canary } })
    expect([answer.status, answer.body.error_code]).toEqual([400, 'REPO_TYPE_UNSUPPORTED'])
    await expectNoCanary([answer])
  })

  test.each([
    ['its name', { ...request, name: 'Alpha' }, 409, 'REPO_EXISTS'],
    ['its name in other letters', { ...request, name: 'aLPHA' }, 409, 'REPO_EXISTS'],
    ['its folder', { ...request, config: { path: '/srv/repo-a' } }, 409, 'REPO_EXISTS'],
    ['a folder inside it', { ...request, config: { path: '/srv/repo-a/more' } }, 422, 'REPO_INVALID'],
    ['a folder around it', { ...request, config: { path: '/srv' } }, 422, 'REPO_INVALID'],
    [
      'its share, in another spelling',
      { ...request, type: 'smb', config: { server: 'NAS', share_name: 'KEPT' } },
      409,
      'REPO_EXISTS',
    ],
    [
      'its share, from another host',
      { ...request, host_id: 'host-2', type: 'cifs', config: { server: 'nas', share_name: 'kept' } },
      409,
      'REPO_EXISTS',
    ],
    [
      'a folder inside its share',
      { ...request, type: 'nfs', config: { server: 'nas', export_path: '/kept/in' } },
      422,
      'REPO_INVALID',
    ],
  ])('refuses %s of another repository', async (_what, body, status, code) => {
    const answer = await registerWith(body)
    expect([answer.status, answer.body.error_code, answer.body['repository_id']]).toEqual([status, code, expect.any(String)])
    expect(api.operations.calls).toEqual([])
  })

  test('the same folder on another host is another folder', async () => {
    const body = { ...request, name: 'Epsilon', host_id: 'host-2', config: { path: '/srv/repo-a' } }
    expect((await registerWith(body)).status).toBe(201)
  })

  test('only for admins, and in the audit trail before it begins', async () => {
    expect((await api.call('POST', '/repositories', { body: request, as: 'operator' })).body.error_code).toBe('FORBIDDEN')
    const { body } = await registerWith({ name: 'Audited', type: 'cifs', config: share })
    const events = await api.call('GET', `/audit?subject_id=${String(body['repository_id'])}`)
    expect(events.body).toMatchObject({
      events: [{ action: 'repository.register', subject_type: 'repository', username: 'admin', details: { name: 'Audited' } }],
    })
    await expectNoCanary([events])
  })
})

/** Neither in answers nor in the log nor in the catalog. */
async function expectNoCanary(answers: unknown[]): Promise<void> {
  const rows = []
  for (const table of ['idempotency_keys', 'audit_events', 'backup_repositories', 'sealed_credentials'] as const)
    rows.push(...(await api.catalog.selectFrom(table).selectAll().execute()))
  const sealed = rows.flatMap((row) => ('sealed' in row ? [row.sealed.toString('latin1')] : []))
  for (const text of [JSON.stringify([answers, rows]), ...sealed, ...api.logs]) expect(text).not.toContain(canary)
}

describe('testing', () => {
  test('a place that is not registered', async () => {
    const { status, body } = await api.call('POST', '/repositories/test', {
      body: { type: 'local', config: { path: '/srv/new' } },
    })
    expect([status, body]).toEqual([
      200,
      { success: true, message: 'Repository connection successful', storage, immutability: null },
    ])
    expect(api.operations.calls[0]).toMatchObject({
      verb: 'testRepository',
      args: [{ type: 'local', config: { path: '/srv/new' } }],
    })
  })

  test('a registered one', async () => {
    const { status, body } = await api.call('POST', '/repositories/repo-a/test')
    expect([status, body]).toEqual([
      200,
      { success: true, message: 'Repository connection successful', storage, immutability: null },
    ])
    expect(api.operations.calls).toEqual([
      {
        verb: 'testRepository',
        args: [
          {
            repositoryId: 'repo-a',
            name: 'Alpha',
            type: 'local',
            hostId: 'local',
            config: { path: '/srv/repo-a' },
            credentialsId: null,
            tryImmutability: false,
          },
        ],
      },
    ])
  })

  test('says so when it cannot be written to', async () => {
    api.operations.answer({
      testRepository: async () => ({ storage: { ...space, writable: false }, enforcement: null }),
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
