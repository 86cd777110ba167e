import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../domain/errors.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertBackup, insertRepository, insertVm } from '../../test/catalog-rows.ts'

interface VmList {
  vm_contexts: { context_id: string }[]
  total_count: number
  next_cursor: string | null
}

let api: TestApi

const idsOf = (list: VmList) => list.vm_contexts.map((vm) => vm.context_id)

beforeAll(async () => {
  api = await createTestApi()
  const { catalog } = api
  await insertVm(catalog, 'ctx-web', 'web')
  await catalog
    .updateTable('vm_contexts')
    .set({ config: JSON.stringify({ disks: [{ key: 'k0', path: '/images/web.qcow2' }] }), power_state: 'on', cpu_count: 2 })
    .where('context_id', '=', 'ctx-web')
    .execute()
  await catalog
    .insertInto('vm_disks')
    .values([
      {
        vm_context_id: 'ctx-web',
        disk_index: 0,
        disk_key: 'k0',
        label: 'Hard disk 1',
        format: 'qcow2',
        size_bytes: 102 * 1024 ** 3,
      },
      {
        vm_context_id: 'ctx-web',
        disk_index: 1,
        disk_key: '/images/web-1.raw',
        label: 'Hard disk 2',
        format: 'raw',
        size_bytes: 512,
      },
    ])
    .execute()
  await insertVm(catalog, 'ctx-twin-1', 'twin')
  await insertVm(catalog, 'ctx-twin-2', 'twin')
  await insertVm(catalog, 'ctx-odd', "Robert'); DROP TABLE vm_contexts;--")
  await insertRepository(catalog, 'repo-1')
  const day = new Date('2026-02-03T00:00:00Z')
  await insertBackup(catalog, { id: 'backup-web-1', vm_context_id: 'ctx-web', repository_id: 'repo-1', created_at: day })
  await insertBackup(catalog, {
    id: 'backup-web-2',
    vm_context_id: 'ctx-web',
    repository_id: 'repo-1',
    status: 'failed',
    completed_at: null,
  })
})
afterAll(() => api?.drop())
beforeEach(() => api.operations.reset())

describe('listing', () => {
  test('gives every VM by name, with what its backups and disks come to', async () => {
    const { status, body } = await api.call<VmList>('GET', '/vm-contexts')
    expect(status).toBe(200)
    expect(body).toMatchObject({ success: true, count: 4, total_count: 4, next_cursor: null })
    const vms = body.vm_contexts
    expect(idsOf(body)).toEqual(['ctx-odd', 'ctx-twin-1', 'ctx-twin-2', 'ctx-web'])
    expect(vms[3]).toMatchObject({
      vm_name: 'web',
      power_state: 'poweredOn',
      cpu_count: 2,
      disk_count: 2,
      total_size_bytes: 102 * 1024 ** 3 + 512,
      total_size_gb: 102,
      backup_count: 1,
      has_backups: true,
      last_backup_at: '2026-02-03T00:00:00.000Z',
    })
    expect(vms[1]).toMatchObject({ backup_count: 0, has_backups: false, last_backup_at: null, disk_count: 0 })
  })

  test('pages through all of them once, same names included', async () => {
    const seen: unknown[] = []
    let cursor = ''
    do {
      const { body } = await api.call<VmList>('GET', `/vm-contexts?limit=1${cursor && `&cursor=${cursor}`}`)
      expect(body.total_count).toBe(4)
      seen.push(...idsOf(body))
      cursor = body.next_cursor ?? ''
    } while (cursor)
    expect(seen).toEqual(['ctx-odd', 'ctx-twin-1', 'ctx-twin-2', 'ctx-web'])
  })

  test.each([
    ['vm_name=web', ['ctx-web']],
    ['vm_name=we', []],
    ['search=WI', ['ctx-twin-1', 'ctx-twin-2']],
    ['search=%25', []],
    ['source_type=libvirt', []],
    ['host_id=local&search=web', ['ctx-web']],
  ])('filters by %s', async (query, ids) => {
    const { body } = await api.call<VmList>('GET', `/vm-contexts?${query}`)
    expect(idsOf(body)).toEqual(ids)
    expect(body.total_count).toBe(ids.length)
  })
})

describe('one VM', () => {
  test.each(['ctx-web', 'web'])('by %s', async (vm) => {
    const { status, body } = await api.call('GET', `/vm-contexts/${vm}`)
    expect(status).toBe(200)
    expect(body).toMatchObject({ vm_context: { context_id: 'ctx-web' }, total_disks: 2 })
  })

  test('by a name that would like to be SQL', async () => {
    const { status, body } = await api.call('GET', `/vm-contexts/${encodeURIComponent("Robert'); DROP TABLE vm_contexts;--")}`)
    expect(status).toBe(200)
    expect(body).toMatchObject({ vm_context: { context_id: 'ctx-odd' } })
  })

  test('its disks, with the fields of every platform', async () => {
    const { body } = await api.call('GET', '/vm-contexts/web/disks')
    expect(body).toEqual({
      success: true,
      context_id: 'ctx-web',
      vm_name: 'web',
      total_disks: 2,
      disks: [
        {
          disk_id: 0,
          disk_index: 0,
          disk_key: 'k0',
          vmware_disk_key: null,
          label: 'Hard disk 1',
          format: 'qcow2',
          size_bytes: 102 * 1024 ** 3,
          size_gb: 102,
          datastore: null,
          path: '/images/web.qcow2',
        },
        expect.objectContaining({ disk_index: 1, path: '/images/web-1.raw', size_gb: 0 }),
      ],
    })
  })

  test('unknown: VM_NOT_FOUND', async () => {
    for (const path of ['/vm-contexts/nobody', '/vm-contexts/nobody/disks', '/vm-contexts/%00', '/vm-contexts/%F0%9F%92%A9']) {
      const { status, body } = await api.call('GET', path)
      expect([path, status, body.error_code]).toEqual([path, 404, 'VM_NOT_FOUND'])
    }
  })

  test('a name of two: VM_NAME_AMBIGUOUS with both', async () => {
    const { status, body } = await api.call('GET', '/vm-contexts/twin')
    expect([status, body.error_code]).toEqual([409, 'VM_NAME_AMBIGUOUS'])
    expect(body['candidates']).toMatchObject([{ vm_context_id: 'ctx-twin-1' }, { vm_context_id: 'ctx-twin-2' }])
  })
})

describe('registering', () => {
  const request = { vm_name: 'db', source_type: 'disk-image', disks: [{ path: '/images/a.raw' }] }

  test('asks the mover of this host and gives the disks it found', async () => {
    const { status, body } = await api.call('POST', '/vm-contexts', { body: request })
    expect(status).toBe(201)
    expect(body).toMatchObject({
      context_id: expect.stringMatching(/^ctx-[0-9a-z]{26}$/),
      vm_name: 'db',
      total_disks: 1,
      disks: [{ path: '/images/a.raw', size_gb: 1 }],
    })
    expect(api.operations.calls).toEqual([
      {
        verb: 'registerVm',
        args: [
          {
            contextId: body['context_id'],
            vmName: 'db',
            sourceType: 'disk-image',
            hostId: 'local',
            config: { disks: [{ path: '/images/a.raw' }] },
          },
        ],
      },
    ])
  })

  test('passes on host, format, label and NBD URIs as given', async () => {
    const disks = [{ path: '/images/a.raw', format: 'qcow2', label: 'Système' }, { uri: 'nbd+unix:///root?socket=/run/x.sock' }]
    await api.call('POST', '/vm-contexts', { body: { ...request, host_id: 'host-2', disks } })
    expect(api.operations.calls[0]?.args[0]).toMatchObject({ hostId: 'host-2', config: { disks } })
  })

  test.each([
    ['no name', { ...request, vm_name: undefined }],
    ['an empty name', { ...request, vm_name: '' }],
    ['a name with a line break', { ...request, vm_name: 'a\nb' }],
    ['a name beginning with a space', { ...request, vm_name: ' a' }],
    ['a name that is a list', { ...request, vm_name: ['a'] }],
    ['a name of 256 characters', { ...request, vm_name: 'x'.repeat(256) }],
    ['no disks', { ...request, disks: [] }],
    ['65 disks', { ...request, disks: Array.from({ length: 65 }, (_, index) => ({ path: `/images/${index}.raw` })) }],
    ['the same disk twice', { ...request, disks: [{ path: '/a.raw' }, { path: '/a.raw' }] }],
    ['a relative path', { ...request, disks: [{ path: 'a.raw' }] }],
    ['a path with ..', { ...request, disks: [{ path: '/images/../etc/shadow' }] }],
    ['a path with NUL', { ...request, disks: [{ path: '/images/a\0.raw' }] }],
    ['path and uri', { ...request, disks: [{ path: '/a.raw', uri: 'nbd://localhost' }] }],
    ['another scheme', { ...request, disks: [{ uri: 'http://localhost/disk' }] }],
    ['a password in the URI', { ...request, disks: [{ uri: 'nbds://me:canary@host/disk' }] }],
    ['an unknown format', { ...request, disks: [{ path: '/a.raw', format: 'vdi' }] }],
    ['an unknown field', { ...request, compress: true }],
    ['a host id that is a path', { ...request, host_id: '../x' }],
  ])('refuses %s: INVALID_REQUEST', async (_what, body) => {
    const answer = await api.call('POST', '/vm-contexts', { body })
    expect([answer.status, answer.body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    expect(JSON.stringify(answer.body)).not.toContain('canary')
    expect(api.operations.calls).toEqual([])
  })

  test('a platform that is not there yet: SOURCE_TYPE_UNSUPPORTED', async () => {
    const { status, body } = await api.call('POST', '/vm-contexts', { body: { ...request, source_type: 'vsphere' } })
    expect([status, body.error_code, body['supported']]).toEqual([400, 'SOURCE_TYPE_UNSUPPORTED', ['disk-image']])
    expect(api.operations.calls).toEqual([])
  })

  test.each([
    ['SOURCE_NOT_FOUND', 422],
    ['SOURCE_INVALID', 422],
    ['VM_EXISTS', 409],
    ['SOURCE_UNAVAILABLE', 503],
    ['MOVER_UNAVAILABLE', 503],
    ['ORCHESTRATOR_UNAVAILABLE', 503],
  ] as const)('passes on %s as %i', async (code, status) => {
    api.operations.answer({
      registerVm: async () => {
        throw new HoldfastError(code, 'in words', { details: { path: '/a.raw' } })
      },
    })
    const answer = await api.call('POST', '/vm-contexts', { body: request })
    expect([answer.status, answer.body]).toEqual([
      status,
      { success: false, error: 'in words', error_code: code, path: '/a.raw', request_id: expect.any(String) },
    ])
  })
})
