/** What the tables themselves refuse and carry along, whatever the code above them does. */
import { sql } from 'kysely'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { backupStates, fullReasons } from '../domain/backup.ts'
import { failureOf } from '../test/failure.ts'
import { createTestCatalog } from '../test/catalog.ts'
import type { TestCatalog } from '../test/catalog.ts'
import {
  countRows,
  insertBackup,
  insertBackupDisk,
  insertLibvirtVm,
  insertRepository,
  insertSource,
  insertVm,
} from '../test/catalog-rows.ts'
import type { Catalog } from './client.ts'
import { insertCredentials } from './queries/credentials.ts'
import { isDuplicateKey, isMissingReference, isStillReferenced } from './driver-errors.ts'

let test: TestCatalog
let catalog: Catalog

beforeEach(async () => {
  test = await createTestCatalog()
  catalog = test.catalog
  await insertVm(catalog, 'vm')
  await insertRepository(catalog, 'repo')
})
afterEach(() => test.drop())

const owned = { vm_context_id: 'vm', repository_id: 'repo' }

/** full ← incremental, with a disk and a chain row. */
async function insertChain(): Promise<void> {
  await insertBackup(catalog, { id: 'full', ...owned })
  await insertBackup(catalog, { id: 'incremental', ...owned, parent_backup_id: 'full' })
  await insertBackupDisk(catalog, 'full')
  await catalog
    .insertInto('backup_chains')
    .values({ id: 'chain', ...owned, disk_id: 0, full_backup_id: 'full', latest_backup_id: 'incremental' })
    .execute()
}

const deleteBackup = (id: string): Promise<unknown> => catalog.deleteFrom('backup_jobs').where('id', '=', id).execute()
const deleteVm = (): Promise<unknown> => catalog.deleteFrom('vm_contexts').where('context_id', '=', 'vm').execute()

describe('deleting a VM context', () => {
  it('takes its disks and its lone backups with their disks along', async () => {
    await insertBackup(catalog, { id: 'full', ...owned })
    await insertBackupDisk(catalog, 'full')
    await catalog
      .insertInto('vm_disks')
      .values({ vm_context_id: 'vm', disk_index: 0, disk_key: 'a', label: 'a', format: 'raw', size_bytes: 1 })
      .execute()
    await deleteVm()
    for (const table of ['vm_disks', 'backup_jobs', 'backup_disks'] as const) expect(await countRows(catalog, table)).toBe(0)
  })

  it('is refused while a chain hangs together, and works once the incrementals are gone', async () => {
    await insertChain()
    expect(isStillReferenced(await failureOf(deleteVm()))).toBe(true)
    expect(await countRows(catalog, 'backup_jobs')).toBe(2)
    await catalog.updateTable('backup_chains').set({ latest_backup_id: 'full' }).execute()
    await deleteBackup('incremental')
    await deleteVm()
    expect(await countRows(catalog, 'backup_chains')).toBe(0)
  })

  it('is refused while one of its backups is pinned', async () => {
    await insertBackup(catalog, { id: 'full', ...owned })
    await catalog
      .insertInto('backup_pins')
      .values({ backup_id: 'full', owner_workflow_id: 'verify:full', reason: 'verification' })
      .execute()
    expect(isStillReferenced(await failureOf(deleteVm()))).toBe(true)
  })
})

describe('a source', () => {
  const deleteSource = (): Promise<unknown> => catalog.deleteFrom('sources').where('id', '=', 'source').execute()

  beforeEach(async () => {
    await insertCredentials(catalog, { id: 'credentials', sealed: Buffer.from('sealed') })
    await insertSource(catalog, 'source', { credentials_id: 'credentials' })
  })

  it('stays as long as it has a VM, and keeps its credentials as long as it uses them', async () => {
    await insertLibvirtVm(catalog, 'live', 'source')
    expect(isStillReferenced(await failureOf(deleteSource()))).toBe(true)
    const deleting = catalog.deleteFrom('sealed_credentials').where('id', '=', 'credentials').execute()
    expect(isStillReferenced(await failureOf(deleting))).toBe(true)
    await catalog.deleteFrom('vm_contexts').where('context_id', '=', 'live').execute()
    await deleteSource()
    await catalog.deleteFrom('sealed_credentials').execute()
  })

  it('knows each VM of its platform once; another may know the same', async () => {
    await insertLibvirtVm(catalog, 'live', 'source', { external_id: 'uuid' })
    expect(isDuplicateKey(await failureOf(insertLibvirtVm(catalog, 'twin', 'source', { external_id: 'uuid' })))).toBe(true)
    await insertSource(catalog, 'other')
    await insertLibvirtVm(catalog, 'elsewhere', 'other', { external_id: 'uuid' })
  })

  it('must exist, with its credentials, and has a name of its own', async () => {
    expect(isMissingReference(await failureOf(insertLibvirtVm(catalog, 'live', 'nowhere')))).toBe(true)
    expect(isMissingReference(await failureOf(insertSource(catalog, 'other', { credentials_id: 'none' })))).toBe(true)
    expect(isDuplicateKey(await failureOf(insertSource(catalog, 'other', { name: 'source' })))).toBe(true)
  })
})

describe('deleting a backup', () => {
  it('is refused while another one needs it', async () => {
    await insertChain()
    expect(isStillReferenced(await failureOf(deleteBackup('full')))).toBe(true)
    expect(await countRows(catalog, 'backup_disks')).toBe(1)
  })

  it('is refused while it is pinned', async () => {
    await insertBackup(catalog, { id: 'full', ...owned })
    await catalog
      .insertInto('backup_pins')
      .values({ backup_id: 'full', owner_workflow_id: 'verify:full', reason: 'verification' })
      .execute()
    expect(isStillReferenced(await failureOf(deleteBackup('full')))).toBe(true)
    await catalog.deleteFrom('backup_pins').execute()
    await deleteBackup('full')
    expect(await countRows(catalog, 'backup_jobs')).toBe(0)
  })

  it('takes its disks and its chain rows along', async () => {
    await insertChain()
    await catalog.updateTable('backup_chains').set({ latest_backup_id: 'full' }).execute()
    await deleteBackup('incremental')
    expect(await countRows(catalog, 'backup_chains')).toBe(1)
    await deleteBackup('full')
    expect(await countRows(catalog, 'backup_chains')).toBe(0)
    expect(await countRows(catalog, 'backup_disks')).toBe(0)
  })

  it('leaves the record of a restore made from it', async () => {
    await insertBackup(catalog, { id: 'full', ...owned })
    await catalog
      .insertInto('restore_jobs')
      .values({
        id: 'r',
        backup_id: 'full',
        vm_name: 'vm',
        disk_index: 0,
        target_path: '/r',
        target_format: 'raw',
        workflow_id: 'restore:r',
      })
      .execute()
    await deleteBackup('full')
    expect(await countRows(catalog, 'restore_jobs')).toBe(1)
  })
})

describe('repositories and users', () => {
  it('keeps a repository that holds backups', async () => {
    await insertBackup(catalog, { id: 'full', ...owned })
    expect(isStillReferenced(await failureOf(catalog.deleteFrom('backup_repositories').execute()))).toBe(true)
    await deleteBackup('full')
    await catalog.deleteFrom('backup_repositories').execute()
  })

  it('keeps names of repositories and users unique, exactly', async () => {
    const taken = await failureOf(insertRepository(catalog, 'repo-2', 'repo'))
    expect(isDuplicateKey(taken)).toBe(true)
    expect(isDuplicateKey(taken, 'unique_name')).toBe(true)
    expect(isDuplicateKey(taken, 'PRIMARY')).toBe(false)
    await insertRepository(catalog, 'repo-3', 'Repo')
    await insertRepository(catalog, 'repo-4', 'repo ')
  })

  it('forgets the idempotency keys of a user who goes', async () => {
    await catalog.insertInto('users').values({ id: 'u', username: 'u', password_hash: 'x', role: 'viewer' }).execute()
    await catalog
      .insertInto('idempotency_keys')
      .values({ user_id: 'u', idempotency_key: 'k', request_sha256: '0'.repeat(64) })
      .execute()
    await catalog.deleteFrom('users').execute()
    expect(await countRows(catalog, 'idempotency_keys')).toBe(0)
  })
})

describe('a backup row', () => {
  it('needs its VM, its repository and its parent', async () => {
    expect(isMissingReference(await failureOf(insertBackup(catalog, { id: 'a', ...owned, vm_context_id: 'nobody' })))).toBe(true)
    expect(isMissingReference(await failureOf(insertBackup(catalog, { id: 'a', ...owned, repository_id: 'nowhere' })))).toBe(true)
    expect(isMissingReference(await failureOf(insertBackup(catalog, { id: 'a', ...owned, parent_backup_id: 'gone' })))).toBe(true)
  })

  it('cannot be completed as an incremental without a parent, a full with one, or a full without a reason', async () => {
    await insertBackup(catalog, { id: 'full', ...owned })
    const refused = [
      { backup_type: 'incremental' as const, parent_backup_id: null },
      { backup_type: 'full' as const, parent_backup_id: 'full', full_reason: 'requested' as const },
      { full_reason: null },
      { completed_at: null },
    ]
    for (const row of refused) {
      expect(await failureOf(insertBackup(catalog, { id: 'bad', ...owned, ...row }))).toMatchObject({ code: 'INTERNAL' })
      await insertBackup(catalog, { id: 'unfinished', ...owned, ...row, status: 'running' })
      await deleteBackup('unfinished')
    }
  })

  it('takes every state and every reason of the domain, and no other', async () => {
    for (const status of backupStates) await insertBackup(catalog, { id: `s-${status}`, ...owned, status })
    for (const full_reason of fullReasons) await insertBackup(catalog, { id: `r-${full_reason}`, ...owned, full_reason })
    const invented = sql`update backup_jobs set status = 'paused' where id = 's-running'`.execute(catalog)
    expect(await failureOf(invented)).toMatchObject({ code: 'INTERNAL' })
  })

  it('is one per disk index in backup_disks, and one per full and disk in backup_chains', async () => {
    await insertChain()
    expect(isDuplicateKey(await failureOf(insertBackupDisk(catalog, 'full', 0)), 'unique_disk')).toBe(true)
    const again = catalog
      .insertInto('backup_chains')
      .values({ id: 'other', ...owned, disk_id: 0, full_backup_id: 'full', latest_backup_id: 'full' })
      .execute()
    expect(isDuplicateKey(await failureOf(again), 'unique_full_and_disk')).toBe(true)
  })
})
