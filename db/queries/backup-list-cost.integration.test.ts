/** What a page costs: rows touched, counted by the server, because milliseconds on a small catalog prove nothing. */
import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { insertRepository, insertVm } from '../../test/catalog-rows.ts'
import type { Catalog } from '../client.ts'
import { countBackups, listBackups } from './backup-list.ts'
import type { BackupFilter } from './backup-list.ts'

const BACKUPS = 20_000
const START = Date.parse('2026-01-01T00:00:00Z')
const PAGE = 20

let test: TestCatalog
/** One connection, whose counters are read. */
let catalog: Catalog

beforeAll(async () => {
  test = await createTestCatalog()
  catalog = test.open({ connections: 1 })
  for (let vm = 0; vm < 10; vm++) await insertVm(catalog, `vm-${vm}`)
  for (let repository = 0; repository < 4; repository++) await insertRepository(catalog, `repo-${repository}`)
  await sql`
    insert into backup_jobs (id, vm_context_id, vm_name, repository_id, requested_type, backup_type, full_reason, status,
      repository_path, compression, workflow_id, created_at, completed_at)
    select concat('backup-', lpad(seq, 6, '0')), concat('vm-', seq mod 10), concat('vm-', seq mod 10), concat('repo-', seq mod 4),
      'full', 'full', 'requested', 'completed', 'x', 'zstd', 'w', ${new Date(START)} + interval seq second, now(3)
    from seq_1_to_${sql.raw(String(BACKUPS))}`.execute(catalog)
  await sql`analyze table backup_jobs`.execute(catalog)
})
afterAll(() => test.drop())

async function rowsTouched(work: () => Promise<unknown>): Promise<number> {
  await sql`flush status`.execute(catalog)
  await work()
  const { rows } = await sql<{ Value: string }>`show session status like 'Handler_read%'`.execute(catalog)
  return rows.reduce((sum, row) => sum + Number(row.Value), 0)
}

const filters: [string, BackupFilter][] = [
  ['everything', {}],
  ['one state', { status: 'completed' }],
  ['a state that nothing is in', { status: 'failed' }],
  ['one type', { backupType: 'full' }],
  ['a type that nothing is of', { backupType: 'incremental' }],
  ['one repository', { repositoryId: 'repo-1' }],
  ['one VM', { vmContextId: 'vm-1' }],
  ['one VM by name', { vmName: 'vm-1' }],
  ['one VM in one repository', { vmContextId: 'vm-1', repositoryId: 'repo-1' }],
]

describe('a page of backups touches a few rows per row shown, however large the catalog', () => {
  it.each(filters)('%s: first page', async (_, filter) => {
    expect(await rowsTouched(() => listBackups(catalog, filter, { limit: PAGE }))).toBeLessThan(PAGE * 20)
  })

  it.each(filters)('%s: a page deep inside', async (_, filter) => {
    const after = { createdAt: new Date(START + (BACKUPS / 2) * 1000), id: 'backup-010000' }
    expect(await rowsTouched(() => listBackups(catalog, filter, { limit: PAGE, after }))).toBeLessThan(PAGE * 20)
  })

  it.each(filters)('%s: a total that stops counting', async (_, filter) => {
    expect(await rowsTouched(() => countBackups(catalog, filter, 100))).toBeLessThan(500)
  })
})
