/** What the API shows and refuses of VMs that were discovered, and of their backups. Recorded rows; the real thing is in `api/libvirt-source…`. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fullReasons, warningCodes } from '../../domain/backup.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import {
  insertBackup,
  insertBackupDisk,
  insertLibvirtVm,
  insertRepository,
  insertSource,
  insertVm,
} from '../../test/catalog-rows.ts'

let api: TestApi
beforeAll(async () => {
  api = await createTestApi()
  const { catalog } = api
  await insertRepository(catalog, 'repo-1')
  await insertSource(catalog, 'source-a', { name: 'kvm' })
  await insertVm(catalog, 'ctx-image')
})
afterAll(() => api?.drop())
beforeEach(async () => {
  api.operations.reset()
  await api.catalog.deleteFrom('backup_jobs').where('parent_backup_id', 'is not', null).execute()
  await api.catalog.deleteFrom('backup_jobs').execute()
  await api.catalog.deleteFrom('vm_contexts').where('source_id', 'is not', null).execute()
  const lastSeen = { last_seen_at: new Date('2026-02-01T00:00:00Z') }
  await insertLibvirtVm(api.catalog, 'ctx-live', 'source-a', lastSeen)
  await insertLibvirtVm(api.catalog, 'ctx-gone', 'source-a', { current_status: 'vanished', ...lastSeen })
  const disk = { disk_key: 'vdb', label: 'vdb', format: 'raw', path: '/images/b.raw', size_bytes: 512 }
  await api.catalog
    .insertInto('vm_disks')
    .values({ vm_context_id: 'ctx-live', disk_index: 1, ...disk })
    .execute()
})

const contextIds = async (query: string) =>
  (await api.call<{ vm_contexts: { context_id: string }[] }>('GET', `/vm-contexts?${query}`)).body.vm_contexts.map(
    (vm) => vm.context_id,
  )

describe('a discovered VM', () => {
  test('says where it comes from, and where its disks lie', async () => {
    const { body } = await api.call('GET', '/vm-contexts/ctx-live')
    expect(body).toMatchObject({
      vm_context: {
        source_id: 'source-a',
        source_name: 'kvm',
        external_id: 'uuid-ctx-live',
        current_status: 'ready',
        status: 'ready',
        last_seen_at: '2026-02-01T00:00:00.000Z',
        excluded_disks: [],
      },
      disks: [{ path: '/images/ctx-live.qcow2' }, { path: '/images/b.raw' }],
    })
    expect((await api.call('GET', '/vm-contexts/ctx-image')).body).toMatchObject({
      vm_context: { source_id: null, source_name: null, external_id: null, last_seen_at: null },
    })
  })

  test('is found by its source and its status', async () => {
    expect(await contextIds('source_id=source-a')).toEqual(['ctx-gone', 'ctx-live'])
    expect(await contextIds('status=vanished')).toEqual(['ctx-gone'])
    expect(await contextIds('source_id=source-a&status=ready')).toEqual(['ctx-live'])
    expect((await api.call('GET', '/vm-contexts?status=gone')).status).toBe(400)
  })

  test('is never registered by hand', async () => {
    const request = { vm_name: 'x', source_type: 'libvirt', disks: [{ path: '/images/a.qcow2' }] }
    const { status, body } = await api.call('POST', '/vm-contexts', { body: request })
    expect([status, body.error_code]).toEqual([400, 'SOURCE_TYPE_UNSUPPORTED'])
    expect(body.error).toContain('POST /sources/{id}/discover')
  })

  test('that has vanished cannot be backed up, and nothing is started', async () => {
    const body = { vm_context_id: 'ctx-gone', repository_id: 'repo-1', backup_type: 'full' }
    const answer = await api.call('POST', '/backups', { body })
    expect([answer.status, answer.body]).toMatchObject([
      422,
      { error_code: 'SOURCE_NOT_FOUND', vm_context_id: 'ctx-gone', last_seen_at: '2026-02-01T00:00:00.000Z' },
    ])
    expect(api.operations.calls).toEqual([])
  })
})

describe('leaving disks out', () => {
  const exclude = (keys: unknown, vm = 'ctx-live') =>
    api.call('PATCH', `/vm-contexts/${vm}`, { body: { excluded_disks: keys }, as: 'operator' })

  test('takes them from the list at once, and asks nobody', async () => {
    const { status, body } = await exclude(['vdb'])
    expect([status, body]).toMatchObject([
      200,
      { vm_context: { excluded_disks: ['vdb'], total_size_bytes: 1024 }, disks: [{ disk_key: 'vda' }], total_disks: 1 },
    ])
    const { config } = await api.catalog
      .selectFrom('vm_contexts')
      .select('config')
      .where('context_id', '=', 'ctx-live')
      .executeTakeFirstOrThrow()
    expect(config).toEqual({ uuid: 'uuid-ctx-live', excluded_disks: ['vdb'] })
    expect(api.operations.calls).toEqual([])
  })

  test('the same again, others instead, and none any more', async () => {
    await exclude(['vdb'])
    expect((await exclude(['vdb'])).status).toBe(200)
    expect((await exclude(['vda'])).body).toMatchObject({ vm_context: { excluded_disks: ['vda'] } })
    expect((await exclude([])).body).toMatchObject({ vm_context: { excluded_disks: [] } })
  })

  test('an unknown disk: DISK_NOT_FOUND with those there are; all disks: INVALID_REQUEST; both change nothing', async () => {
    const unknown = await exclude(['vdb', 'vdz'])
    expect([unknown.status, unknown.body]).toMatchObject([
      404,
      { error_code: 'DISK_NOT_FOUND', unknown_disks: ['vdz'], disks: ['vda', 'vdb'] },
    ])
    const all = await exclude(['vda', 'vdb'])
    expect([all.status, all.body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    await exclude(['vdb'])
    expect((await exclude(['vda', 'vdb'])).body.error_code, 'with one left out already').toBe('INVALID_REQUEST')
    expect((await api.call('GET', '/vm-contexts/ctx-live')).body).toMatchObject({ vm_context: { excluded_disks: ['vdb'] } })
  })

  test.each<[string, unknown]>([
    ['nothing', undefined],
    ['null', null],
    ['a string', 'vdb'],
    ['numbers', [1]],
    ['an empty key', ['']],
    ['the same twice', ['vdb', 'vdb']],
    ['65 keys', Array.from({ length: 65 }, (_, index) => `vd${index}`)],
    ['an endless key', ['v'.repeat(701)]],
  ])('refuses %s: INVALID_REQUEST', async (_what, keys) => {
    const { status, body } = await exclude(keys)
    expect([status, body.error_code]).toEqual([400, 'INVALID_REQUEST'])
  })

  test('is for VMs of libvirt', async () => {
    const { status, body } = await exclude(['/images/a.raw'], 'ctx-image')
    expect([status, body.error_code, body['source_type']]).toEqual([400, 'INVALID_REQUEST', 'disk-image'])
    expect((await exclude([], 'nobody')).body.error_code).toBe('VM_NOT_FOUND')
  })
})

describe('a backup', () => {
  const warnings = warningCodes.map((code) => ({ code, disk: code === 'consistency_reduced' ? null : 'vdb', message: 'why' }))

  beforeEach(async () => {
    const of = {
      vm_context_id: 'ctx-live',
      repository_id: 'repo-1',
      consistency: 'filesystem',
      consistency_reason: 'frozen',
    } as const
    await insertBackup(api.catalog, {
      ...of,
      id: 'full',
      created_at: new Date(0),
      full_reason: 'bitmap_lost',
      full_reason_detail: 'QEMU crashed',
    })
    await insertBackup(api.catalog, {
      ...of,
      id: 'incremental',
      created_at: new Date(1),
      parent_backup_id: 'full',
      warnings: JSON.stringify(warnings),
    })
    for (const id of ['full', 'incremental']) for (const index of [0, 1]) await insertBackupDisk(api.catalog, id, index)
    const lost = { full_reason: 'checkpoint_missing', full_reason_detail: 'reverted' } as const
    await api.catalog
      .updateTable('backup_disks')
      .set(lost)
      .where('backup_job_id', '=', 'incremental')
      .where('disk_index', '=', 1)
      .execute()
  })

  test('says in lists, details and chains how consistent it is, what was left out, and why what is a full', async () => {
    const known = {
      consistency: 'filesystem',
      consistency_reason: 'frozen',
      warnings,
      full_reason: null,
      full_reason_detail: null,
    }
    const full = { full_reason: 'bitmap_lost', full_reason_detail: 'QEMU crashed', warnings: [] }
    expect((await api.call('GET', '/backups')).body).toMatchObject({ backups: [known, full] })
    const disks = [
      { full_reason: null, full_reason_detail: null },
      { full_reason: 'checkpoint_missing', full_reason_detail: 'reverted' },
    ]
    expect((await api.call('GET', '/backups/incremental')).body).toMatchObject({ ...known, disks, backup: { ...known, disks } })
    expect((await api.call('GET', '/backups/chain?vm_context_id=ctx-live')).body).toMatchObject({
      backups: [full, { ...known, disks: [{ disk_id: 0 }, { disk_id: 1, disk_key: '/images/disk-1.raw', ...disks[1] }] }],
    })
  })

  test.each(fullReasons)('may be a full because of %s', async (reason) => {
    await api.catalog.updateTable('backup_jobs').set({ full_reason: reason }).where('id', '=', 'full').execute()
    expect((await api.call('GET', '/backups/full')).body).toMatchObject({ full_reason: reason })
  })
})
