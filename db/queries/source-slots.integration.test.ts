import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { insertBackup, insertRepository, insertVm } from '../../test/catalog-rows.ts'
import { failureOf } from '../../test/failure.ts'
import type { Catalog } from '../client.ts'
import { takeSourceSlot } from './source-slots.ts'

let database: TestCatalog
let catalog: Catalog
beforeAll(async () => {
  database = await createTestCatalog()
  catalog = database.catalog
  await insertRepository(catalog, 'repo')
})
afterAll(() => database.drop())

/** A source of this limit, with pending backups of VMs of its own. */
async function sourceWithBackups(id: string, most: number, backups: number): Promise<string[]> {
  const row = { id, name: id, source_type: 'libvirt' as const, config: '{}', host_id: 'local', max_concurrent_backups: most }
  await catalog.insertInto('sources').values(row).execute()
  const ids = Array.from({ length: backups }, (_, index) => `${id}-${index}`)
  for (const backupId of ids) {
    await insertVm(catalog, backupId)
    await catalog.updateTable('vm_contexts').set({ source_id: id }).where('context_id', '=', backupId).execute()
    const unfinished = { status: 'pending' as const, completed_at: null }
    await insertBackup(catalog, { id: backupId, vm_context_id: backupId, repository_id: 'repo', ...unfinished })
  }
  return ids
}

test('as many as the limit get a slot, however many ask at once; the others are told to wait', async () => {
  const ids = await sourceWithBackups('crowded', 3, 10)
  const outcomes = await Promise.allSettled(ids.map((id) => takeSourceSlot(catalog, id)))
  expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(3)
  const refused = outcomes.find((outcome) => outcome.status === 'rejected')
  expect(refused?.reason).toMatchObject({ code: 'SOURCE_BUSY', retryable: true, details: { max_concurrent_backups: 3 } })
})

test('a slot is taken once, and is free when its backup has ended, however it ended', async () => {
  const [first, second] = await sourceWithBackups('single', 1, 2)
  await takeSourceSlot(catalog, first!)
  await takeSourceSlot(catalog, first!)
  expect((await failureOf(takeSourceSlot(catalog, second!))).code).toBe('SOURCE_BUSY')
  await catalog.updateTable('backup_jobs').set({ status: 'failed' }).where('id', '=', first!).execute()
  await takeSourceSlot(catalog, second!)
})

test('a VM without a source connection needs none', async () => {
  await insertVm(catalog, 'alone')
  const unfinished = { status: 'pending' as const, completed_at: null }
  await insertBackup(catalog, { id: 'alone-1', vm_context_id: 'alone', repository_id: 'repo', ...unfinished })
  await takeSourceSlot(catalog, 'alone-1')
  const row = await catalog.selectFrom('backup_jobs').select('source_slot_at').where('id', '=', 'alone-1').executeTakeFirst()
  expect(row).toEqual({ source_slot_at: null })
})
