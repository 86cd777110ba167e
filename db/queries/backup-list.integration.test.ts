import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { insertBackup, insertRepository, insertVm } from '../../test/catalog-rows.ts'
import { countBackups } from './backup-list.ts'
import { countRestores } from './restores.ts'

let database: TestCatalog

beforeAll(async () => {
  database = await createTestCatalog()
  const { catalog } = database
  await insertVm(catalog, 'ctx-1')
  await insertRepository(catalog, 'repo-1')
  for (const id of ['a', 'b', 'c']) {
    await insertBackup(catalog, {
      id,
      vm_context_id: 'ctx-1',
      repository_id: 'repo-1',
      status: id === 'c' ? 'failed' : 'completed',
    })
  }
})
afterAll(() => database?.drop())

test('backups are counted whole, or no further than asked', async () => {
  const { catalog } = database
  expect(await countBackups(catalog, {})).toBe(3)
  expect(await countBackups(catalog, {}, 2)).toBe(2)
  expect(await countBackups(catalog, {}, 10)).toBe(3)
  expect(await countBackups(catalog, { status: 'completed' })).toBe(2)
  expect(await countBackups(catalog, { status: 'completed' }, 1)).toBe(1)
})

test('restores too', async () => {
  expect(await countRestores(database.catalog, {})).toBe(0)
  expect(await countRestores(database.catalog, { status: 'failed' }, 5)).toBe(0)
})
