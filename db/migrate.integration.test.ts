import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { insertBackup, insertRepository } from '../test/catalog-rows.ts'
import { createTestCatalog, createTestDatabase } from '../test/catalog.ts'
import type { TestCatalog } from '../test/catalog.ts'
import { migrateToLatest } from './migrate.ts'
import * as foundingTables from './migrations/0001-founding-tables.ts'
import * as sourceConnections from './migrations/0002-source-connections.ts'
import * as vmRestores from './migrations/0003-vm-restores.ts'
import * as restoreMounts from './migrations/0004-restore-mounts.ts'
import * as repositoryCare from './migrations/0005-repository-care.ts'
import type { Database } from './schema.ts'

/** Every column `schema.ts` promises; the compiler refuses a missing or an invented one. */
const promised: { [Table in keyof Database]: Record<keyof Database[Table], true> } = {
  users: { id: true, username: true, password_hash: true, role: true, created_at: true },
  backup_repositories: {
    id: true,
    name: true,
    repository_type: true,
    enabled: true,
    config: true,
    host_id: true,
    total_size_bytes: true,
    used_size_bytes: true,
    available_size_bytes: true,
    last_check_at: true,
    credentials_id: true,
    auto_mount: true,
    total_inodes: true,
    used_inodes: true,
    latency_ms: true,
    health: true,
    health_message: true,
    health_since: true,
    stopped_at: true,
    warning_percent: true,
    critical_percent: true,
    is_immutable: true,
    immutable_method: true,
    retention_period_days: true,
    min_retention_days: true,
    enforced_by: true,
    enforcement_reason: true,
    attested_at: true,
    created_at: true,
    updated_at: true,
  },
  repository_samples: {
    repository_id: true,
    sampled_at: true,
    total_bytes: true,
    used_bytes: true,
    available_bytes: true,
    used_inodes: true,
    total_inodes: true,
    latency_ms: true,
    health: true,
  },
  repository_reservations: { backup_id: true, repository_id: true, reserved_bytes: true, created_at: true },
  alerts: {
    id: true,
    kind: true,
    cause: true,
    severity: true,
    repository_id: true,
    backup_id: true,
    message: true,
    details: true,
    opened_at: true,
    seen_at: true,
    acknowledged_at: true,
    acknowledged_by: true,
    resolved_at: true,
    open_cause: true,
  },
  sources: {
    id: true,
    name: true,
    source_type: true,
    config: true,
    credentials_id: true,
    host_id: true,
    max_concurrent_backups: true,
    status: true,
    version: true,
    hostname: true,
    warnings: true,
    error_code: true,
    error_message: true,
    last_tested_at: true,
    last_discovered_at: true,
    created_at: true,
    updated_at: true,
  },
  sealed_credentials: { id: true, sealed: true, created_at: true },
  vm_contexts: {
    context_id: true,
    vm_name: true,
    source_type: true,
    config: true,
    host_id: true,
    source_id: true,
    external_id: true,
    current_status: true,
    power_state: true,
    cpu_count: true,
    memory_mb: true,
    os_type: true,
    last_seen_at: true,
    restored_in_place_at: true,
    created_at: true,
    updated_at: true,
  },
  vm_disks: { vm_context_id: true, disk_index: true, disk_key: true, label: true, format: true, path: true, size_bytes: true },
  backup_jobs: {
    id: true,
    vm_context_id: true,
    vm_name: true,
    repository_id: true,
    policy_id: true,
    requested_type: true,
    backup_type: true,
    full_reason: true,
    full_reason_detail: true,
    status: true,
    repository_path: true,
    parent_backup_id: true,
    consistency: true,
    consistency_reason: true,
    warnings: true,
    compression: true,
    total_bytes: true,
    processed_bytes: true,
    bytes_transferred: true,
    size_bytes: true,
    rate_limit_bytes_per_second: true,
    verification_status: true,
    verified_at: true,
    verification_message: true,
    error_code: true,
    error_message: true,
    workflow_id: true,
    source_slot_at: true,
    parked_reason: true,
    parked_at: true,
    parked_message: true,
    locked_until: true,
    created_at: true,
    started_at: true,
    completed_at: true,
  },
  backup_disks: {
    id: true,
    backup_job_id: true,
    disk_index: true,
    disk_key: true,
    label: true,
    backup_type: true,
    full_reason: true,
    full_reason_detail: true,
    qcow2_path: true,
    size_bytes: true,
    file_size_bytes: true,
    processed_bytes: true,
    bytes_transferred: true,
    rate_bytes_per_second: true,
    resumed_at_bytes: true,
    attempt: true,
    disk_change_id: true,
    blocks_sha256: true,
    status: true,
    error_message: true,
    parked_at: true,
    progress_at: true,
    completed_at: true,
  },
  backup_chains: {
    id: true,
    vm_context_id: true,
    repository_id: true,
    disk_id: true,
    full_backup_id: true,
    latest_backup_id: true,
    total_backups: true,
    total_size_bytes: true,
    created_at: true,
    updated_at: true,
  },
  backup_pins: { backup_id: true, owner_workflow_id: true, reason: true, created_at: true },
  restore_jobs: {
    id: true,
    parent_restore_id: true,
    backup_id: true,
    vm_name: true,
    target_type: true,
    target: true,
    disk_index: true,
    target_path: true,
    final_path: true,
    external_id: true,
    warnings: true,
    target_format: true,
    status: true,
    total_bytes: true,
    processed_bytes: true,
    rate_bytes_per_second: true,
    resumed_at_bytes: true,
    error_code: true,
    error_message: true,
    workflow_id: true,
    created_at: true,
    started_at: true,
    completed_at: true,
    target_in_use: true,
  },
  restore_mounts: {
    id: true,
    backup_id: true,
    backup_disk_id: true,
    disk_index: true,
    host_id: true,
    driver: true,
    status: true,
    mount_path: true,
    nbd_device: true,
    filesystem_type: true,
    volumes: true,
    idle_seconds: true,
    maximum_seconds: true,
    last_access_at: true,
    workflow_id: true,
    created_at: true,
  },
  mover_endpoints: { host_id: true, files_url: true, certificate: true, instance_id: true, updated_at: true },
  audit_events: {
    id: true,
    at: true,
    user_id: true,
    username: true,
    action: true,
    subject_type: true,
    subject_id: true,
    details: true,
    request_id: true,
    remote_address: true,
  },
  idempotency_keys: {
    user_id: true,
    idempotency_key: true,
    request_sha256: true,
    status_code: true,
    response: true,
    created_at: true,
  },
}

async function columnsOf(catalog: TestCatalog['catalog']): Promise<Record<string, string[]>> {
  const { rows } = await sql<{ table: string; column: string }>`
    select table_name as \`table\`, column_name as \`column\` from information_schema.columns
    where table_schema = database() and table_name not like 'kysely%'`.execute(catalog)
  const tables: Record<string, string[]> = {}
  for (const { table, column } of rows) (tables[table] ??= []).push(column)
  return Object.fromEntries(Object.entries(tables).map(([table, columns]) => [table, columns.sort()]))
}

describe('the migrated catalog', () => {
  let test: TestCatalog
  beforeAll(async () => {
    test = await createTestCatalog()
  })
  afterAll(() => test.drop())

  it('has exactly the tables and columns of schema.ts', async () => {
    const expected = Object.fromEntries(Object.entries(promised).map(([table, columns]) => [table, Object.keys(columns).sort()]))
    expect(await columnsOf(test.catalog)).toEqual(expected)
  })

  it('compares text exactly in every table', async () => {
    const { rows } = await sql<{ collation: string }>`
      select distinct collation_name as collation from information_schema.columns
      where table_schema = database() and table_name not like 'kysely%' and data_type in ('varchar', 'char', 'text', 'enum')
    `.execute(test.catalog)
    expect(rows).toEqual([{ collation: 'utf8mb4_nopad_bin' }])
  })
})

const known = {
  '0001-founding-tables': foundingTables,
  '0002-source-connections': sourceConnections,
  '0003-vm-restores': vmRestores,
  '0004-restore-mounts': restoreMounts,
  '0005-repository-care': repositoryCare,
}
const everything = Object.keys(known)

describe('migrating', () => {
  it('does nothing the second time', async () => {
    const database = await createTestDatabase()
    onTestFinished(() => database.drop())
    const catalog = database.open()
    expect(await migrateToLatest(catalog)).toEqual(everything)
    expect(await migrateToLatest(catalog)).toEqual([])
  })

  it('runs once when several processes start at the same time', async () => {
    const database = await createTestDatabase()
    onTestFinished(() => database.drop())
    const applied = await Promise.all(Array.from({ length: 5 }, () => migrateToLatest(database.open())))
    expect(applied.flat()).toEqual(everything)
  })

  it('goes on after a crash half-way', async () => {
    const database = await createTestDatabase()
    onTestFinished(() => database.drop())
    const catalog = database.open()
    await foundingTables.up(catalog)
    for (const table of ['backup_pins', 'backup_chains', 'idempotency_keys'] as const)
      await sql`drop table ${sql.table(table)}`.execute(catalog)
    expect(await migrateToLatest(catalog)).toEqual(everything)
    expect(Object.keys(await columnsOf(catalog)).sort()).toEqual(Object.keys(promised).sort())
  })

  it('goes on after a crash in the middle of the second', async () => {
    const database = await createTestDatabase()
    onTestFinished(() => database.drop())
    const catalog = database.open()
    await migrateToLatest(catalog, { '0001-founding-tables': foundingTables })
    await sourceConnections.up(catalog)
    await sql`alter table backup_jobs drop column warnings`.execute(catalog)
    await sql`alter table vm_contexts drop foreign key vm_contexts_of_source`.execute(catalog)
    expect(await migrateToLatest(catalog)).toEqual(everything.slice(1))
    expect(Object.keys(await columnsOf(catalog)).sort()).toEqual(Object.keys(promised).sort())
    expect((await columnsOf(catalog))['backup_jobs']).toContain('warnings')
  })

  it('keeps what a catalog of the version before holds', async () => {
    const database = await createTestDatabase()
    onTestFinished(() => database.drop())
    const catalog = database.open()
    await migrateToLatest(catalog, { '0001-founding-tables': foundingTables })
    const columns = {
      context_id: 'ctx-old',
      vm_name: 'old',
      source_type: 'disk-image' as const,
      config: '{"disks":[]}',
      host_id: 'local',
    }
    await catalog.insertInto('vm_contexts').values(columns).execute()
    await insertRepository(catalog, 'repo')
    await insertBackup(catalog, { id: 'backup-old', vm_context_id: 'ctx-old', repository_id: 'repo' })
    await migrateToLatest(catalog)
    expect(await catalog.selectFrom('vm_contexts').selectAll().executeTakeFirst()).toMatchObject({
      vm_name: 'old',
      source_id: null,
      external_id: null,
      current_status: 'ready',
    })
    expect(await catalog.selectFrom('backup_jobs').selectAll().executeTakeFirst()).toMatchObject({
      id: 'backup-old',
      warnings: [],
      consistency_reason: null,
    })
  })

  it('can be undone', async () => {
    const database = await createTestDatabase()
    onTestFinished(() => database.drop())
    const catalog = database.open()
    await migrateToLatest(catalog)
    for (const migration of [repositoryCare, restoreMounts, vmRestores, sourceConnections]) {
      await migration.down(catalog)
      await migration.down(catalog)
    }
    await foundingTables.down(catalog)
    expect(await columnsOf(catalog)).toEqual({})
  })

  it('names the migration that failed, and keeps the ones before it', async () => {
    const database = await createTestDatabase()
    onTestFinished(() => database.drop())
    const catalog = database.open()
    const broken = { up: async () => void (await sql`alter table nothing_here add column x int`.execute(catalog)) }
    const list = { ...known, '0009-broken': broken }
    await expect(migrateToLatest(catalog, list)).rejects.toMatchObject({
      code: 'INTERNAL',
      message: expect.stringContaining('Migration "0009-broken"'),
      details: { migration: '0009-broken' },
    })
    expect(await migrateToLatest(catalog)).toEqual([])
  })

  it('says so when the catalog was written by a newer version', async () => {
    const database = await createTestDatabase()
    onTestFinished(() => database.drop())
    const catalog = database.open()
    await migrateToLatest(catalog, { ...known, '0009-later': { up: () => Promise.resolve() } })
    await expect(migrateToLatest(catalog)).rejects.toMatchObject({ code: 'INTERNAL', message: expect.stringContaining('newer') })
  })
})
