import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../domain/errors.ts'
import { unsealCredentials } from '../../security/sealed-credentials.ts'
import type { SourceRequest } from '../../temporal/operations.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertBackup, insertLibvirtVm, insertRepository, insertSource } from '../../test/catalog-rows.ts'

interface Source {
  id: string
  name: string
  has_credentials: boolean
  vm_count: number
}

const canary = 'canary9f31ab'
const privateKey = `-----BEGIN OPENSSH PRIVATE KEY-----\n${canary}\n-----END OPENSSH PRIVATE KEY-----`
const request = { name: 'kvm', source_type: 'libvirt', uri: 'qemu+ssh://backup@kvm-1/system' }

let api: TestApi
/** Whatever was answered or logged in this file. */
const said: string[] = []

beforeAll(async () => {
  api = await createTestApi()
  await insertRepository(api.catalog, 'repo-1')
})
afterAll(() => api?.drop())
beforeEach(async () => {
  api.operations.reset()
  for (const table of ['idempotency_keys', 'backup_jobs', 'vm_contexts', 'sources', 'sealed_credentials'] as const)
    await api.catalog.deleteFrom(table).execute()
  // What the workflow would have recorded.
  api.operations.answer({
    registerSource: async (given) => record(given),
    changeSource: async (given) => {
      await api.catalog.deleteFrom('sources').where('id', '=', given.sourceId).execute()
      return record(given)
    },
  })
})

async function record(given: SourceRequest) {
  await insertSource(api.catalog, given.sourceId, {
    name: given.name,
    config: JSON.stringify(given.config),
    credentials_id: given.credentialsId,
    host_id: given.hostId,
    max_concurrent_backups: given.maxConcurrentBackups,
    version: 'QEMU 7.2.0, libvirt 9.0.0',
  })
  return { version: 'QEMU 7.2.0, libvirt 9.0.0', hostname: 'kvm-1', warnings: [] }
}

const call: TestApi['call'] = async <Body>(...request: Parameters<TestApi['call']>) => {
  const answer = await api.call<Body>(...request)
  said.push(JSON.stringify(answer.body))
  return answer
}

const add = (change: object = {}, headers: Record<string, string> = {}) =>
  call<{ source_id: string; source: Source }>('POST', '/sources', { body: { ...request, ...change }, headers })

const asked = () => api.operations.calls.map(({ verb, args }) => [verb, ...args])

describe('adding', () => {
  test('asks the mover of this host, with ids and settings and nothing else', async () => {
    const { status, body } = await add({
      credentials: { ssh_private_key: privateKey },
      ssh_known_hosts: 'kvm-1 ssh-ed25519 AAAA',
    })
    expect([status, body]).toMatchObject([
      201,
      {
        source_id: expect.stringMatching(/^source-[0-9a-z]{26}$/),
        source: {
          name: 'kvm',
          source_type: 'libvirt',
          uri: request.uri,
          scratch_folder: '/var/tmp',
          ssh_known_hosts: 'kvm-1 ssh-ed25519 AAAA',
          has_credentials: true,
          max_concurrent_backups: 4,
          host_id: 'local',
          status: 'reachable',
          version: 'QEMU 7.2.0, libvirt 9.0.0',
          vm_count: 0,
        },
      },
    ])
    const credentialsId = expect.stringMatching(/^credentials-[0-9a-z]{26}$/)
    const config = { uri: request.uri, scratch_folder: '/var/tmp', ssh_known_hosts: 'kvm-1 ssh-ed25519 AAAA' }
    const given = { sourceId: body.source_id, name: 'kvm', sourceType: 'libvirt', hostId: 'local', config, credentialsId }
    expect(asked()).toEqual([['registerSource', { ...given, maxConcurrentBackups: 4 }]])
    expect(JSON.stringify(asked())).not.toContain(canary)
  })

  test('the credentials are sealed, and can be opened with the key of this home alone', async () => {
    await add({ credentials: { ssh_private_key: privateKey.replaceAll('\n', '\r\n') } })
    const row = await api.catalog.selectFrom('sealed_credentials').selectAll().executeTakeFirstOrThrow()
    expect(row.sealed.toString('latin1')).not.toContain(canary)
    expect(await unsealCredentials(api.catalog, api.keysFolder, row.id)).toEqual({ ssh_private_key: `${privateKey}\n` })
  })

  test('twice under one key is one source', async () => {
    const key = { 'Idempotency-Key': 'once' }
    const answers = await Promise.all([add({}, key), add({}, key)])
    expect(answers.map(({ status }) => status)).toEqual([201, 201])
    expect(new Set(answers.map(({ body }) => body.source_id)).size).toBe(1)
    expect((await add({ name: 'other' }, key)).body.error_code).toBe('IDEMPOTENCY_CONFLICT')
  })

  test('an answer that was lost is recalled, without its credentials in the record of the key', async () => {
    const key = { 'Idempotency-Key': 'lost' }
    const withKey = { credentials: { ssh_private_key: privateKey } }
    const { body } = await add(withKey, key)
    await api.catalog
      .updateTable('idempotency_keys')
      .set({ response: JSON.stringify({ reserved_id: body.source_id }), status_code: null })
      .execute()
    const again = await add({ credentials: { ssh_private_key: `${privateKey}\n` } }, key)
    expect([again.status, again.body.source_id]).toEqual([201, body.source_id])
    expect(asked()).toHaveLength(1)
    expect(JSON.stringify(await api.catalog.selectFrom('idempotency_keys').selectAll().execute())).not.toContain(canary)
  })

  test.each<[string, object]>([
    ['no name', { name: undefined }],
    ['an empty name', { name: '' }],
    ['a name of control characters', { name: 'a\u0000b' }],
    ['no URI', { uri: undefined }],
    ['a URI that is none', { uri: 'kvm-1' }],
    ['a URI with spaces', { uri: 'qemu:///system?socket=/a b' }],
    ['a URI with a line break', { uri: 'qemu:///system\n-c' }],
    ['an option for a URI', { uri: '--connect' }],
    ['an endless URI', { uri: `qemu:///system?socket=/${'a'.repeat(1024)}` }],
    ['a password in the URI', { uri: `qemu+ssh://root:${canary}@kvm/system` }],
    ['a URI that is a list', { uri: [request.uri] }],
    ['a relative scratch folder', { scratch_folder: 'var/tmp' }],
    ['a scratch folder with ..', { scratch_folder: '/var/../etc' }],
    ['the root as scratch folder', { scratch_folder: '/' }],
    ['a private key as known host', { ssh_known_hosts: privateKey }],
    ['known hosts that are no text', { ssh_known_hosts: 'kvm-1 \u0000' }],
    ['credentials that are a string', { credentials: canary }],
    ['a password', { credentials: { password: canary } }],
    ['a key and more', { credentials: { ssh_private_key: privateKey, passphrase: canary } }],
    ['a key that is none', { credentials: { ssh_private_key: canary } }],
    ['a public key', { credentials: { ssh_private_key: `ssh-ed25519 ${canary}` } }],
    ['an empty key', { credentials: { ssh_private_key: '' } }],
    ['an endless key', { credentials: { ssh_private_key: privateKey + canary.repeat(1000) } }],
    ['no backups at a time', { max_concurrent_backups: 0 }],
    ['half a backup at a time', { max_concurrent_backups: 0.5 }],
    ['a host that is a path', { host_id: '../x' }],
    ['an unknown type', { source_type: 'hyper-v' }],
    ['an unknown field', { insecure: true }],
  ])('refuses %s: INVALID_REQUEST, and repeats nothing of it', async (_what, change) => {
    const { status, body } = await add(change)
    expect([status, body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    expect(JSON.stringify(body)).not.toContain(canary)
    expect(asked()).toEqual([])
    expect(await api.catalog.selectFrom('sealed_credentials').selectAll().execute()).toEqual([])
  })

  test.each(['vsphere', 'disk-image'])('refuses the type %s: SOURCE_TYPE_UNSUPPORTED', async (source_type) => {
    const { status, body } = await add({ source_type, credentials: { ssh_private_key: privateKey } })
    expect([status, body.error_code, body['supported' as never]]).toEqual([400, 'SOURCE_TYPE_UNSUPPORTED', ['libvirt']])
    expect(asked()).toEqual([])
    expect(await api.catalog.selectFrom('sealed_credentials').selectAll().execute()).toEqual([])
  })

  test.each<[string, object]>([
    ['name', { name: 'taken' }],
    ['platform', { uri: 'qemu+ssh://taken/system' }],
  ])('refuses a %s that is taken before anything is stored: SOURCE_EXISTS', async (taken, change) => {
    await insertSource(api.catalog, 'taken')
    const { status, body } = await add({ ...change, credentials: { ssh_private_key: privateKey } })
    expect([status, body]).toMatchObject([409, { error_code: 'SOURCE_EXISTS', source_id: 'taken', taken }])
    expect(asked()).toEqual([])
    expect(await api.catalog.selectFrom('sealed_credentials').selectAll().execute()).toEqual([])
  })

  test.each([
    ['SOURCE_INVALID', 422],
    ['SOURCE_AUTHENTICATION_FAILED', 422],
    ['SOURCE_UNAVAILABLE', 503],
    ['MOVER_UNAVAILABLE', 503],
    ['ORCHESTRATOR_UNAVAILABLE', 503],
  ] as const)('passes on %s as %i', async (code, status) => {
    api.operations.answer({
      registerSource: async () => {
        throw new HoldfastError(code, 'in words')
      },
    })
    const answer = await add({ credentials: { ssh_private_key: privateKey } })
    expect([answer.status, answer.body]).toMatchObject([status, { error_code: code, error: 'in words' }])
    expect((await call('GET', '/sources')).body['total_count']).toBe(0)
  })
})

describe('listing', () => {
  interface SourceList {
    sources: Source[]
    total_count: number
    next_cursor: string | null
  }

  test('by name, with how many VMs each has, page by page', async () => {
    for (const id of ['c', 'a', 'b']) await insertSource(api.catalog, id)
    await insertLibvirtVm(api.catalog, 'ctx-1', 'b')
    await insertLibvirtVm(api.catalog, 'ctx-2', 'b', { current_status: 'vanished' })
    const seen: Source[] = []
    let cursor = ''
    do {
      const { body } = await call<SourceList>('GET', `/sources?limit=1${cursor && `&cursor=${cursor}`}`)
      expect(body.total_count).toBe(3)
      seen.push(...body.sources)
      cursor = body.next_cursor ?? ''
    } while (cursor)
    expect(seen.map((source) => [source.id, source.vm_count])).toEqual([
      ['a', 0],
      ['b', 2],
      ['c', 0],
    ])
  })

  test.each([
    ['status=unreachable', ['b']],
    ['host_id=elsewhere', ['c']],
    ['source_type=vsphere', []],
  ])('filters by %s', async (query, ids) => {
    await insertSource(api.catalog, 'a')
    await insertSource(api.catalog, 'b', { status: 'unreachable', error_code: 'SOURCE_UNAVAILABLE', error_message: 'no route' })
    await insertSource(api.catalog, 'c', { host_id: 'elsewhere' })
    const { body } = await call<SourceList>('GET', `/sources?${query}`)
    expect([body.sources.map((source) => source.id), body.total_count]).toEqual([ids, ids.length])
  })

  test('one; unknown: SOURCE_CONNECTION_NOT_FOUND for every verb', async () => {
    await insertSource(api.catalog, 'a', { warnings: '["no guest agent"]' })
    expect((await call('GET', '/sources/a')).body).toMatchObject({ source: { id: 'a', warnings: ['no guest agent'] } })
    for (const [method, path, body] of [
      ['GET', '/sources/x', undefined],
      ['PATCH', '/sources/x', { name: 'y' }],
      ['DELETE', '/sources/x', undefined],
      ['POST', '/sources/x/test', undefined],
      ['POST', '/sources/x/discover', undefined],
    ] as const) {
      const answer = await call(method, path, body && { body })
      expect([method, path, answer.status, answer.body.error_code]).toEqual([method, path, 404, 'SOURCE_CONNECTION_NOT_FOUND'])
    }
    expect(asked()).toEqual([])
  })
})

describe('changing', () => {
  const change = (body: object) => call<{ source: Source }>('PATCH', '/sources/a', { body })
  const config = { uri: 'qemu+ssh://a/system', scratch_folder: '/var/tmp' }
  const settings = { sourceId: 'a', name: 'a', sourceType: 'libvirt', hostId: 'local', maxConcurrentBackups: 4 }

  test('the name or the limit needs no platform', async () => {
    await insertSource(api.catalog, 'a', { status: 'unreachable' })
    const { status, body } = await change({ name: 'renamed', max_concurrent_backups: 9 })
    expect([status, body]).toMatchObject([200, { source: { name: 'renamed', max_concurrent_backups: 9, status: 'unreachable' } }])
    expect(asked()).toEqual([])
  })

  test.each<[string, object, object]>([
    ['the URI', { uri: 'qemu:///system' }, { ...config, uri: 'qemu:///system' }],
    ['the scratch folder', { scratch_folder: '/srv' }, { ...config, scratch_folder: '/srv' }],
    ['the known hosts', { ssh_known_hosts: 'kvm x' }, { ...config, ssh_known_hosts: 'kvm x' }],
  ])('%s, and what is not given stays', async (_what, body, changed) => {
    await insertSource(api.catalog, 'a')
    expect((await change(body)).status).toBe(200)
    expect(asked()).toEqual([['changeSource', { ...settings, config: changed, credentialsId: null }]])
  })

  test('null takes known hosts and credentials away; absent leaves them', async () => {
    await add({ ssh_known_hosts: 'kvm x', credentials: { ssh_private_key: privateKey } })
    const { id } = (await call<{ sources: Source[] }>('GET', '/sources')).body.sources[0]!
    const patch = (body: object) => call<{ source: Source }>('PATCH', `/sources/${id}`, { body })
    expect((await patch({ scratch_folder: '/srv' })).body.source).toMatchObject({
      has_credentials: true,
      ssh_known_hosts: 'kvm x',
      scratch_folder: '/srv',
    })
    expect((await patch({ credentials: null })).body.source).toMatchObject({ has_credentials: false, ssh_known_hosts: 'kvm x' })
    expect((await patch({ ssh_known_hosts: null })).body.source).toMatchObject({ ssh_known_hosts: null })
  })

  test('new credentials are sealed before the mover hears of them', async () => {
    await insertSource(api.catalog, 'a')
    const { body } = await change({ credentials: { ssh_private_key: privateKey } })
    expect(body.source.has_credentials).toBe(true)
    expect(JSON.stringify(asked())).not.toContain(canary)
  })

  test.each<[string, object]>([
    ['nothing', {}],
    ['another type', { source_type: 'vsphere' }],
    ['another host', { host_id: 'elsewhere' }],
    ['no name', { name: null }],
    ['a password in the URI', { uri: `qemu+ssh://root:${canary}@kvm/system` }],
    ['a key that is none', { credentials: { ssh_private_key: canary } }],
  ])('refuses %s: INVALID_REQUEST', async (_what, body) => {
    await insertSource(api.catalog, 'a')
    const answer = await change(body)
    expect([answer.status, answer.body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    expect(asked()).toEqual([])
  })

  test('a name or platform that is taken: SOURCE_EXISTS', async () => {
    await insertSource(api.catalog, 'a')
    await insertSource(api.catalog, 'b')
    expect((await change({ name: 'b' })).body.error_code).toBe('SOURCE_EXISTS')
    expect((await change({ uri: 'qemu+ssh://b/system' })).body.error_code).toBe('SOURCE_EXISTS')
    expect(asked()).toEqual([])
  })

  test('while another change runs: SOURCE_BUSY, and the new credentials are forgotten, the old ones not', async () => {
    const { body } = await add({ credentials: { ssh_private_key: privateKey } })
    const before = await api.catalog.selectFrom('sealed_credentials').select('id').execute()
    api.operations.answer({
      changeSource: async () => {
        throw new HoldfastError('SOURCE_BUSY', 'being changed')
      },
    })
    for (const refused of [{ credentials: { ssh_private_key: privateKey } }, { scratch_folder: '/srv' }]) {
      const answer = await call('PATCH', `/sources/${body.source_id}`, { body: refused })
      expect([answer.status, answer.body.error_code]).toEqual([503, 'SOURCE_BUSY'])
      expect(await api.catalog.selectFrom('sealed_credentials').select('id').execute()).toEqual(before)
    }
  })

  test('what the platform refuses stays as it was', async () => {
    await insertSource(api.catalog, 'a')
    api.operations.answer({
      changeSource: async () => {
        throw new HoldfastError('SOURCE_AUTHENTICATION_FAILED', 'wrong key')
      },
    })
    const { status, body } = await change({ uri: 'qemu:///system', credentials: { ssh_private_key: privateKey } })
    expect([status, body.error_code]).toEqual([422, 'SOURCE_AUTHENTICATION_FAILED'])
    expect((await call('GET', '/sources/a')).body).toMatchObject({ source: { uri: config.uri, has_credentials: false } })
  })
})

describe('deleting', () => {
  test('takes its VMs along', async () => {
    await insertSource(api.catalog, 'a')
    await insertLibvirtVm(api.catalog, 'ctx-1', 'a')
    const { status, body } = await call('DELETE', '/sources/a')
    expect([status, body]).toMatchObject([200, { source_id: 'a', removed_vm_count: 1 }])
    expect((await call('GET', '/vm-contexts')).body['total_count']).toBe(0)
  })

  test('is refused while a VM has a backup: SOURCE_IN_USE', async () => {
    await insertSource(api.catalog, 'a')
    await insertLibvirtVm(api.catalog, 'ctx-1', 'a')
    await insertBackup(api.catalog, { id: 'backup-1', vm_context_id: 'ctx-1', repository_id: 'repo-1', status: 'cancelled' })
    const { status, body } = await call('DELETE', '/sources/a')
    expect([status, body]).toMatchObject([409, { error_code: 'SOURCE_IN_USE', backup_count: 1 }])
    expect((await call('GET', '/backups/backup-1')).status).toBe(200)
  })
})

describe('looking', () => {
  test('a test gives the source as it is now', async () => {
    await insertSource(api.catalog, 'a')
    const { status, body } = await call('POST', '/sources/a/test')
    expect([status, body]).toMatchObject([200, { source_id: 'a', source: { status: 'reachable' } }])
    expect(asked()).toEqual([['testSource', { sourceId: 'a', hostId: 'local' }]])
  })

  test('a discovery gives counts and problems', async () => {
    await insertSource(api.catalog, 'a')
    const problems = [{ vmName: 'odd "name"', externalId: 'uuid-1', error: 'its XML cannot be read' }]
    api.operations.answer({
      discoverVms: async () => ({ found: 3, added: 1, updated: 1, vanished: 2, problems, problemCount: 1 }),
    })
    const { status, body } = await call('POST', '/sources/a/discover', { as: 'operator' })
    expect([status, body]).toMatchObject([
      200,
      {
        found: 3,
        added: 1,
        updated: 1,
        vanished: 2,
        problem_count: 1,
        problems: [{ vm_name: 'odd "name"', external_id: 'uuid-1', error: 'its XML cannot be read' }],
      },
    ])
  })

  test.each(['test', 'discover'])('a %s that fails says why', async (verb) => {
    await insertSource(api.catalog, 'a')
    const refuse = async (): Promise<never> => {
      throw new HoldfastError('SOURCE_UNAVAILABLE', 'no route to host')
    }
    api.operations.answer({ testSource: refuse, discoverVms: refuse })
    const { status, body, headers } = await call('POST', `/sources/a/${verb}`)
    expect([status, body.error_code, headers.get('Retry-After')]).toEqual([503, 'SOURCE_UNAVAILABLE', '5'])
  })
})

test('no key that was given stands in any answer, log or clear column', async () => {
  await add({ credentials: { ssh_private_key: privateKey } }, { 'Idempotency-Key': 'canary' })
  expect(said.length).toBeGreaterThan(50)
  expect(said.join('')).not.toContain(canary)
  expect(api.logs.join('')).not.toContain(canary)
  for (const table of ['sources', 'sealed_credentials', 'idempotency_keys'] as const) {
    const rows = await api.catalog.selectFrom(table).selectAll().execute()
    expect(rows.length).toBeGreaterThan(0)
    const text = rows
      .flatMap((row) => Object.values(row))
      .map((value) => (Buffer.isBuffer(value) ? value.toString('latin1') : JSON.stringify(value)))
    expect(text.join('')).not.toContain(canary)
  }
})
