import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { countRows, insertBackup, insertLibvirtVm, insertRepository, insertSource as insertRow } from '../../test/catalog-rows.ts'
import { failureOf } from '../../test/failure.ts'
import type { Catalog } from '../client.ts'
import { insertCredentials } from './credentials.ts'
import {
  checkSourceIsNew,
  deleteSource,
  insertSource,
  recordSourceFailure,
  recordSourceReached,
  relabelSource,
  replaceSource,
} from './source-records.ts'
import type { NewSource } from './source-records.ts'
import { findSource } from './sources.ts'

let database: TestCatalog
let catalog: Catalog
beforeAll(async () => {
  database = await createTestCatalog()
  catalog = database.catalog
  await insertRepository(catalog, 'repo-1')
})
afterAll(() => database?.drop())
beforeEach(async () => {
  await catalog.deleteFrom('backup_jobs').execute()
  await catalog.deleteFrom('vm_contexts').execute()
  await catalog.deleteFrom('sources').execute()
  await catalog.deleteFrom('sealed_credentials').execute()
})

const platform = { version: 'QEMU 7.2.0, libvirt 9.0.0', hostname: 'kvm-1', warnings: ['no guest agent'] }
const source: NewSource = {
  sourceId: 'source-a',
  name: 'kvm',
  sourceType: 'libvirt',
  hostId: 'local',
  config: { uri: 'qemu:///system' },
  credentialsId: null,
  maxConcurrentBackups: 2,
}

async function credentials(id: string): Promise<string> {
  await insertCredentials(catalog, { id, sealed: Buffer.from('sealed') })
  return id
}

const credentialIds = async () => (await catalog.selectFrom('sealed_credentials').select('id').execute()).map((row) => row.id)

describe('recording', () => {
  test('keeps what the platform said; again, changes nothing', async () => {
    await insertSource(catalog, source, platform)
    await insertSource(catalog, { ...source, name: 'again' }, platform)
    expect(await findSource(catalog, 'source-a')).toMatchObject({
      name: 'kvm',
      status: 'reachable',
      version: platform.version,
      hostname: 'kvm-1',
      warnings: ['no guest agent'],
      max_concurrent_backups: 2,
      last_tested_at: expect.any(Date),
    })
  })

  test('a name that is taken, checked before or found too late: SOURCE_EXISTS', async () => {
    await insertSource(catalog, source, platform)
    const namesake = { ...source, sourceId: 'source-b', config: { uri: 'qemu+ssh://b/system' } }
    const early = await failureOf(checkSourceIsNew(catalog, namesake))
    expect([early.code, early.details]).toEqual(['SOURCE_EXISTS', { source_id: 'source-a', taken: 'name' }])
    expect((await failureOf(insertSource(catalog, namesake, platform))).code).toBe('SOURCE_EXISTS')
    await insertSource(catalog, { ...namesake, name: 'other' }, platform)
    expect((await failureOf(relabelSource(catalog, 'source-b', { ...namesake, name: 'kvm' }))).code).toBe('SOURCE_EXISTS')
    expect((await failureOf(replaceSource(catalog, namesake, platform))).code).toBe('SOURCE_EXISTS')
  })

  test('a platform that is taken is refused, from the same host', async () => {
    await insertSource(catalog, source, platform)
    const second = { ...source, sourceId: 'source-b', name: 'second' }
    expect((await failureOf(checkSourceIsNew(catalog, second))).details).toEqual({ source_id: 'source-a', taken: 'platform' })
    await checkSourceIsNew(catalog, { ...second, hostId: 'elsewhere' })
    await checkSourceIsNew(catalog, source)
  })
})

describe('replacing', () => {
  test('forgets the old credentials with the old settings', async () => {
    const before = await credentials('credentials-old')
    await insertSource(catalog, { ...source, credentialsId: before }, platform)
    const after = await credentials('credentials-new')
    const change = { ...source, credentialsId: after, config: { uri: 'qemu+ssh://b/system' } }
    await replaceSource(catalog, change, platform)
    await replaceSource(catalog, change, platform)
    expect(await credentialIds()).toEqual(['credentials-new'])
    expect(await findSource(catalog, 'source-a')).toMatchObject({ config: change.config, credentials_id: after })
    await replaceSource(catalog, { ...change, credentialsId: null }, platform)
    expect(await credentialIds()).toEqual([])
  })

  test('what is gone: SOURCE_CONNECTION_NOT_FOUND', async () => {
    expect((await failureOf(replaceSource(catalog, source, platform))).code).toBe('SOURCE_CONNECTION_NOT_FOUND')
  })
})

test('a failure is kept until the platform is reached again', async () => {
  await insertSource(catalog, source, platform)
  await recordSourceFailure(catalog, { sourceId: 'source-a', code: 'SOURCE_UNAVAILABLE', message: 'no route' })
  expect(await findSource(catalog, 'source-a')).toMatchObject({
    status: 'unreachable',
    error_code: 'SOURCE_UNAVAILABLE',
    error_message: 'no route',
    version: platform.version,
  })
  await recordSourceReached(catalog, 'source-a', platform)
  expect(await findSource(catalog, 'source-a')).toMatchObject({ status: 'reachable', error_code: null, error_message: null })
  await recordSourceFailure(catalog, { sourceId: 'gone', code: 'SOURCE_UNAVAILABLE', message: 'no route' })
})

describe('deleting', () => {
  test('takes VMs without backups and the credentials along, and nothing of others', async () => {
    await insertRow(catalog, 'source-a', { credentials_id: await credentials('credentials-a') })
    await insertRow(catalog, 'source-b', { credentials_id: await credentials('credentials-b') })
    await insertLibvirtVm(catalog, 'ctx-1', 'source-a')
    await insertLibvirtVm(catalog, 'ctx-2', 'source-a')
    await insertLibvirtVm(catalog, 'ctx-3', 'source-b')
    expect(await deleteSource(catalog, 'source-a')).toBe(2)
    expect([await countRows(catalog, 'vm_contexts'), await credentialIds()]).toEqual([1, ['credentials-b']])
    expect((await failureOf(deleteSource(catalog, 'source-a'))).code).toBe('SOURCE_CONNECTION_NOT_FOUND')
  })

  test.each(['completed', 'failed', 'running'] as const)('is refused while a VM has a backup that is %s', async (status) => {
    await insertRow(catalog, 'source-a', { credentials_id: await credentials('credentials-a') })
    await insertLibvirtVm(catalog, 'ctx-1', 'source-a')
    await insertLibvirtVm(catalog, 'ctx-2', 'source-a', { current_status: 'vanished' })
    await insertBackup(catalog, { id: 'backup-1', vm_context_id: 'ctx-2', repository_id: 'repo-1', status })
    const refusal = await failureOf(deleteSource(catalog, 'source-a'))
    expect([refusal.code, refusal.details]).toEqual(['SOURCE_IN_USE', { source_id: 'source-a', backup_count: 1 }])
    expect([await countRows(catalog, 'vm_contexts'), await countRows(catalog, 'backup_jobs')]).toEqual([2, 1])
    expect(await credentialIds()).toEqual(['credentials-a'])
  })

  test('and a backup that begins at the same moment: one of both is refused, and no backup is lost', async () => {
    for (let round = 0; round < 10; round++) {
      const id = `source-${round}`
      await insertRow(catalog, id)
      await insertLibvirtVm(catalog, `ctx-${round}`, id)
      const backup = { id: `backup-${round}`, vm_context_id: `ctx-${round}`, repository_id: 'repo-1' }
      const [deleted, begun] = await Promise.allSettled([deleteSource(catalog, id), insertBackup(catalog, backup)])
      const rows = await catalog.selectFrom('backup_jobs').select('id').where('id', '=', backup.id).execute()
      expect(rows).toHaveLength(begun.status === 'fulfilled' ? 1 : 0)
      expect([deleted.status, begun.status].toSorted()).toEqual(['fulfilled', 'rejected'])
    }
  })
})
