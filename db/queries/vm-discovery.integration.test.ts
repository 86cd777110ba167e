import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { countRows, insertBackup, insertLibvirtVm, insertRepository, insertSource, insertVm } from '../../test/catalog-rows.ts'
import { failureOf } from '../../test/failure.ts'
import type { Catalog } from '../client.ts'
import type { SeenVm } from './registration.ts'
import { findSource } from './sources.ts'
import type { SourceRow } from './sources.ts'
import { recordDiscovery } from './vm-discovery.ts'
import type { FoundVm } from './vm-discovery.ts'

let database: TestCatalog
let catalog: Catalog
beforeAll(async () => {
  database = await createTestCatalog()
  catalog = database.catalog
  await insertRepository(catalog, 'repo-1')
})
afterAll(() => database?.drop())
beforeEach(async () => {
  await catalog.deleteFrom('vm_contexts').execute()
  await catalog.deleteFrom('sources').execute()
  await insertSource(catalog, 'source-a')
  await insertSource(catalog, 'source-b')
})

const seen: SeenVm = {
  powerState: 'on',
  cpuCount: 2,
  memoryMb: 64,
  osType: null,
  disks: [{ index: 0, key: 'vda', label: 'vda', format: 'qcow2', path: '/images/a.qcow2', sizeBytes: 1024 }],
}

const found = (externalId: string, change: Partial<FoundVm> = {}): FoundVm => ({
  newContextId: `ctx-new-${externalId}`,
  externalId,
  name: externalId,
  config: { uuid: externalId },
  seen,
  ...change,
})

async function discover(vms: FoundVm[], sourceId = 'source-a') {
  return recordDiscovery(catalog, await sourceRow(sourceId), vms)
}

async function sourceRow(id: string): Promise<SourceRow> {
  return (await findSource(catalog, id))!
}

const vmOf = (externalId: string) =>
  catalog.selectFrom('vm_contexts').selectAll().where('external_id', '=', externalId).executeTakeFirst()

const none = { added: 0, updated: 0, vanished: 0 }

describe('a discovery', () => {
  test('adds what is new, with its disks', async () => {
    expect(await discover([found('a'), found('b')])).toEqual({ ...none, added: 2 })
    expect(await vmOf('a')).toMatchObject({
      context_id: 'ctx-new-a',
      source_id: 'source-a',
      source_type: 'libvirt',
      config: { uuid: 'a' },
      current_status: 'ready',
      power_state: 'on',
      cpu_count: 2,
      memory_mb: 64,
      last_seen_at: expect.any(Date),
    })
    const disk = await catalog.selectFrom('vm_disks').selectAll().where('vm_context_id', '=', 'ctx-new-a').executeTakeFirst()
    expect(disk).toMatchObject({ disk_key: 'vda', path: '/images/a.qcow2', size_bytes: 1024 })
    expect((await sourceRow('source-a')).last_discovered_at).toBeInstanceOf(Date)
  })

  test('done again changes nothing but the time it was seen', async () => {
    await discover([found('a', { config: { uuid: 'a', zone: { b: 1, a: 2 } } })])
    await catalog
      .updateTable('vm_contexts')
      .set({ last_seen_at: new Date(0) })
      .execute()
    expect(await discover([found('a', { newContextId: 'ctx-2', config: { zone: { a: 2, b: 1 }, uuid: 'a' } })])).toEqual(none)
    expect((await vmOf('a'))?.context_id).toBe('ctx-new-a')
    expect((await vmOf('a'))?.last_seen_at?.getTime()).toBeGreaterThan(0)
  })

  test.each<[string, Partial<FoundVm>]>([
    ['another name', { name: 'renamed' }],
    ['switched off', { seen: { ...seen, powerState: 'off' } }],
    ['more memory', { seen: { ...seen, memoryMb: 128 } }],
    ['an operating system', { seen: { ...seen, osType: 'http://debian.org/debian/12' } }],
    ['a grown disk', { seen: { ...seen, disks: [{ ...seen.disks[0]!, sizeBytes: 4096 }] } }],
    ['a disk elsewhere', { seen: { ...seen, disks: [{ ...seen.disks[0]!, path: '/moved.qcow2' }] } }],
    ['no disk', { seen: { ...seen, disks: [] } }],
  ])('follows a VM with %s under the id it has', async (_what, change) => {
    await discover([found('a')])
    expect(await discover([found('a', { newContextId: 'ctx-other', ...change })])).toEqual({ ...none, updated: 1 })
    expect(await discover([found('a', change)])).toEqual(none)
    const vm = await vmOf('a')
    expect([vm?.context_id, vm?.vm_name]).toEqual(['ctx-new-a', change.name ?? 'a'])
    const disks = await catalog.selectFrom('vm_disks').selectAll().execute()
    expect(disks.map((disk) => disk.size_bytes)).toEqual((change.seen ?? seen).disks.map((disk) => disk.sizeBytes))
  })

  test('marks what is not there as vanished, keeps its backups, and welcomes it back', async () => {
    await discover([found('a'), found('b')])
    await insertBackup(catalog, { id: 'backup-a', vm_context_id: 'ctx-new-a', repository_id: 'repo-1' })
    expect(await discover([found('b')])).toEqual({ ...none, vanished: 1 })
    expect(await discover([found('b')]), 'vanished once').toEqual(none)
    expect(await vmOf('a')).toMatchObject({ current_status: 'vanished', power_state: 'on' })
    expect(await countRows(catalog, 'backup_jobs')).toBe(1)
    expect(await discover([found('a'), found('b')])).toEqual({ ...none, updated: 1 })
    expect(await vmOf('a')).toMatchObject({ context_id: 'ctx-new-a', current_status: 'ready' })
    await catalog.deleteFrom('backup_jobs').execute()
  })

  test('an empty platform has no VMs', async () => {
    await discover([found('a'), found('b')])
    expect(await discover([])).toEqual({ ...none, vanished: 2 })
    expect(await countRows(catalog, 'vm_contexts')).toBe(2)
  })

  test('a VM that is there but cannot be described stays as it was, and is not added', async () => {
    await discover([found('a')])
    expect(await discover([found('a', { seen: null, name: 'renamed' }), found('b', { seen: null })])).toEqual({
      ...none,
      updated: 1,
    })
    expect(await vmOf('a')).toMatchObject({ vm_name: 'renamed', current_status: 'ready', cpu_count: 2 })
    expect(await countRows(catalog, 'vm_disks')).toBe(1)
    expect(await vmOf('b')).toBeUndefined()
  })

  test('two VMs may have one name', async () => {
    expect(await discover([found('a', { name: 'twin' }), found('b', { name: 'twin' })])).toEqual({ ...none, added: 2 })
  })

  test('keeps what a person configured', async () => {
    await discover([found('a')])
    const config = JSON.stringify({ uuid: 'a', excluded_disks: ['vdb'] })
    await catalog.updateTable('vm_contexts').set({ config }).execute()
    expect(await discover([found('a', { name: 'renamed' })])).toEqual({ ...none, updated: 1 })
    expect((await vmOf('a'))?.config).toEqual({ uuid: 'a', excluded_disks: ['vdb'] })
  })

  test('touches no VM of another source, and none that was registered by hand', async () => {
    await insertLibvirtVm(catalog, 'ctx-b', 'source-b', { external_id: 'a' })
    await insertVm(catalog, 'ctx-hand')
    expect(await discover([found('a')])).toEqual({ ...none, added: 1 })
    const statuses = await catalog.selectFrom('vm_contexts').select(['context_id', 'current_status']).execute()
    expect(statuses.every((vm) => vm.current_status === 'ready')).toBe(true)
    expect(statuses).toHaveLength(3)
  })

  test('of settings that were replaced meanwhile is refused and changes nothing', async () => {
    await discover([found('a')])
    const before = await sourceRow('source-a')
    await catalog
      .updateTable('sources')
      .set({ config: '{"uri":"qemu+ssh://elsewhere/system"}' })
      .where('id', '=', 'source-a')
      .execute()
    const refusal = await failureOf(recordDiscovery(catalog, before, []))
    expect([refusal.code, (await vmOf('a'))?.current_status]).toEqual(['SOURCE_BUSY', 'ready'])
  })

  test('of a source that is gone: SOURCE_CONNECTION_NOT_FOUND', async () => {
    const before = await sourceRow('source-b')
    await catalog.deleteFrom('sources').where('id', '=', 'source-b').execute()
    expect((await failureOf(recordDiscovery(catalog, before, [found('a')]))).code).toBe('SOURCE_CONNECTION_NOT_FOUND')
  })

  test('twice at the same time adds each VM once', async () => {
    const vms = Array.from({ length: 20 }, (_, index) => found(`vm-${index}`))
    const again = vms.map((vm) => ({ ...vm, newContextId: `${vm.newContextId}-again` }))
    const counts = await Promise.all([discover(vms), discover(again)])
    expect(counts.map((count) => count.added)).toEqual(expect.arrayContaining([0, 20]))
    expect(await countRows(catalog, 'vm_contexts')).toBe(20)
  })

  test('of five hundred VMs takes seconds', async () => {
    const vms = Array.from({ length: 500 }, (_, index) => found(`vm-${index}`))
    const began = performance.now()
    expect(await discover(vms)).toEqual({ ...none, added: 500 })
    expect(await discover(vms)).toEqual(none)
    expect(performance.now() - began).toBeLessThan(20_000)
  })
})
