import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { insertBackup, insertBackupDisk, insertLibvirtVm, insertRepository, insertSource } from '../../test/catalog-rows.ts'
import type { Catalog } from '../client.ts'
import { changeIdsInUseOf, changeIdsInUseOfSource } from './change-ids.ts'

let database: TestCatalog
let catalog: Catalog
const at = (hour: number) => new Date(Date.UTC(2026, 1, 1, hour))

beforeAll(async () => {
  database = await createTestCatalog()
  catalog = database.catalog
  await insertRepository(catalog, 'repo-1')
  await insertRepository(catalog, 'repo-2')
  for (const source of ['source-a', 'source-b']) await insertSource(catalog, source)
  await insertLibvirtVm(catalog, 'ctx-1', 'source-a')
  await insertLibvirtVm(catalog, 'ctx-2', 'source-a')
  await insertLibvirtVm(catalog, 'ctx-3', 'source-b')
  await insertLibvirtVm(catalog, 'ctx-bare', 'source-b')
  await backup('one', 'ctx-1', 'repo-1', 1)
  await backup('two', 'ctx-1', 'repo-1', 2)
  // Neither is a point that an incremental may start from.
  await backup('failed', 'ctx-1', 'repo-1', 3, { status: 'failed' })
  await backup('running', 'ctx-1', 'repo-1', 4, { status: 'running', completed_at: null })
  await backup('elsewhere', 'ctx-1', 'repo-2', 1)
  await backup('other-vm', 'ctx-2', 'repo-1', 5)
  await backup('other-source', 'ctx-3', 'repo-1', 6)
  await backup('same-instant-a', 'ctx-3', 'repo-2', 7)
  await backup('same-instant-b', 'ctx-3', 'repo-2', 7)
})
afterAll(() => database?.drop())

/** With two disks: one that has the backup's change ID, one without. */
async function backup(id: string, contextId: string, repositoryId: string, hour: number, row: object = {}): Promise<void> {
  await insertBackup(catalog, { id, vm_context_id: contextId, repository_id: repositoryId, created_at: at(hour), ...row })
  await insertBackupDisk(catalog, id, 0)
  await insertBackupDisk(catalog, id, 1)
  await catalog
    .updateTable('backup_disks')
    .set({ disk_change_id: `holdfast-${id}` })
    .where('backup_job_id', '=', id)
    .where('disk_index', '=', 0)
    .execute()
}

test('of a VM: those of the newest completed backup in each repository', async () => {
  expect((await changeIdsInUseOf(catalog, 'ctx-1')).toSorted()).toEqual(['holdfast-elsewhere', 'holdfast-two'])
  expect(await changeIdsInUseOf(catalog, 'ctx-bare')).toEqual([])
})

test('two backups of one instant have an order all the same', async () => {
  expect(await changeIdsInUseOf(catalog, 'ctx-3')).toEqual(expect.arrayContaining(['holdfast-same-instant-b']))
  expect(await changeIdsInUseOf(catalog, 'ctx-3')).toHaveLength(2)
})

test('of a source: those of each of its VMs, and of no other', async () => {
  const inUse = await changeIdsInUseOfSource(catalog, 'source-a')
  expect(inUse.toSorted()).toEqual(['holdfast-elsewhere', 'holdfast-other-vm', 'holdfast-two'])
  expect(await changeIdsInUseOfSource(catalog, 'source-none')).toEqual([])
})
