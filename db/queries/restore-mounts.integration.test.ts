import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { Volume } from '../../domain/restore-mount.ts'
import { insertBackup, insertBackupDisk, insertRepository, insertVm } from '../../test/catalog-rows.ts'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { failureOf } from '../../test/failure.ts'
import { findMoverEndpoint, recordMoverEndpoint, removeMoverEndpoint } from './mover-endpoints.ts'
import { beginMounting, deleteRestoreMount, insertRestoreMount, markUnmounting, recordMounted } from './restore-mount-records.ts'
import type { NewRestoreMount } from './restore-mount-records.ts'
import {
  countRestoreMounts,
  findRestoreMount,
  knownRestoreMounts,
  listRestoreMounts,
  mountExpiry,
  noteMountAccess,
} from './restore-mounts.ts'

const HOUR = 3_600_000
const noon = Date.parse('2026-03-01T12:00:00.123Z')

let database: TestCatalog

beforeAll(async () => {
  database = await createTestCatalog()
  const { catalog } = database
  await insertVm(catalog, 'ctx')
  await insertRepository(catalog, 'repo')
  await insertBackup(catalog, { id: 'backup-a', vm_context_id: 'ctx', repository_id: 'repo' })
  for (const index of [0, 1, 2]) await insertBackupDisk(catalog, 'backup-a', index)
})
afterAll(() => database?.drop())

async function begin(change: Partial<NewRestoreMount> = {}): Promise<NewRestoreMount> {
  const { diskIndex = 0 } = change
  const mount = {
    mountId: `mount-${diskIndex}`,
    backupId: 'backup-a',
    diskIndex,
    hostId: 'local',
    workflowId: `restore-mount:mount-${diskIndex}`,
    startedAt: noon,
    idleMs: HOUR,
    maximumMs: 24 * HOUR,
    ...change,
  }
  onTestFinished(() => deleteRestoreMount(database.catalog, mount.mountId))
  await insertRestoreMount(database.catalog, mount)
  return mount
}

const found = (mountId = 'mount-0') => findRestoreMount(database.catalog, mountId)

const volume: Volume = { id: 'partition-1', state: 'readable', fileSystem: 'ext4', label: '', uuid: '', sizeBytes: 1, note: '' }
const mounted = {
  driver: 'user-mode-linux',
  mountPath: '/run/mover-1/m',
  device: '/proc/7/root/disk',
  volumes: [
    volume,
    { ...volume, id: 'partition-2', fileSystem: 'xfs' },
    { ...volume, id: 'partition-3' },
    { ...volume, id: 'partition-4', state: 'swap', fileSystem: 'swap' },
  ],
} as const

describe('the row of a mount', () => {
  test('begins as mounting and says what is open', async () => {
    await begin()
    expect(await found()).toMatchObject({ status: 'mounting', driver: null, volumes: [], mount_path: '', nbd_device: '' })
    expect(await recordMounted(database.catalog, 'mount-0', mounted)).toBe(true)
    expect(await found()).toMatchObject({
      status: 'mounted',
      driver: 'user-mode-linux',
      mount_path: '/run/mover-1/m',
      nbd_device: '/proc/7/root/disk',
      filesystem_type: 'ext4, xfs',
      volumes: mounted.volumes,
    })
  })

  test('recorded again, as a repeated step does, keeps what it says', async () => {
    const mount = await begin()
    await recordMounted(database.catalog, 'mount-0', mounted)
    await insertRestoreMount(database.catalog, mount)
    expect(await found()).toMatchObject({ status: 'mounted' })
    expect(await recordMounted(database.catalog, 'mount-0', mounted), 'nothing changes').toBe(true)
  })

  test('that a lost workflow left makes way for a new one', async () => {
    await begin()
    await recordMounted(database.catalog, 'mount-0', mounted)
    await begin({ startedAt: noon + HOUR, idleMs: 2 * HOUR })
    const row = await found()
    expect(row).toMatchObject({ status: 'mounting', nbd_device: '', idle_seconds: 7200 })
    expect(row?.created_at).toEqual(new Date(noon + HOUR))
  })

  test('of a disk that the backup does not have is refused', async () => {
    const refusal = await failureOf(begin({ diskIndex: 7 }))
    expect(refusal).toMatchObject({ code: 'DISK_NOT_FOUND', details: { disk_index: 7, disk_indexes: [0, 1, 2] } })
  })

  test('is not opened again while it is being unmounted, or when it is gone', async () => {
    const { catalog } = database
    await begin()
    expect(await beginMounting(catalog, 'mount-0')).toBe(true)
    await markUnmounting(catalog, 'mount-0')
    expect(await beginMounting(catalog, 'mount-0')).toBe(false)
    expect(await recordMounted(catalog, 'mount-0', mounted)).toBe(false)
    expect(await found()).toMatchObject({ status: 'unmounting', nbd_device: '' })
    await deleteRestoreMount(catalog, 'mount-0')
    expect(await beginMounting(catalog, 'mount-0')).toBe(false)
  })

  test('is deleted only as the one that was seen, if that is asked', async () => {
    await begin()
    await deleteRestoreMount(database.catalog, 'mount-0', new Date(noon - 1))
    expect(await found()).toBeDefined()
    await deleteRestoreMount(database.catalog, 'mount-0', new Date(noon))
    expect(await found()).toBeUndefined()
  })
})

describe('accesses', () => {
  test('of many mounts are noted at once, the latest of each and never backwards', async () => {
    await begin()
    await begin({ diskIndex: 1 })
    await noteMountAccess(database.catalog, [
      { mountId: 'mount-0', at: noon + 5 },
      { mountId: 'mount-0', at: noon + 7 },
      { mountId: 'mount-0', at: noon + 6 },
      { mountId: 'mount-1', at: noon - 1 },
      { mountId: 'mount-gone', at: noon + 9 },
    ])
    expect((await found('mount-0'))?.last_access_at).toEqual(new Date(noon + 7))
    expect((await found('mount-1'))?.last_access_at).toEqual(new Date(noon))
    await noteMountAccess(database.catalog, [])
    expect(await knownRestoreMounts(database.catalog, ['mount-0', 'mount-gone'])).toEqual(new Set(['mount-0']))
  })

  test('move the end of the lease, up to its maximum', async () => {
    await begin({ maximumMs: 3 * HOUR })
    expect(mountExpiry((await found())!)).toEqual(new Date(noon + HOUR))
    await noteMountAccess(database.catalog, [{ mountId: 'mount-0', at: noon + HOUR / 2 }])
    expect(mountExpiry((await found())!)).toEqual(new Date(noon + 1.5 * HOUR))
    await noteMountAccess(database.catalog, [{ mountId: 'mount-0', at: noon + 2.5 * HOUR }])
    expect(mountExpiry((await found())!)).toEqual(new Date(noon + 3 * HOUR))
  })
})

test('lists are newest first, page by page, with a total', async () => {
  const { catalog } = database
  await begin()
  await begin({ diskIndex: 1, startedAt: noon + 1 })
  await begin({ diskIndex: 2, startedAt: noon + 1 })
  const first = await listRestoreMounts(catalog, { limit: 2 })
  expect(first.map((row) => row.id)).toEqual(['mount-2', 'mount-1'])
  const after = { createdAt: first[1]!.created_at, id: first[1]!.id }
  expect((await listRestoreMounts(catalog, { limit: 2, after })).map((row) => row.id)).toEqual(['mount-0'])
  expect(await countRestoreMounts(catalog)).toBe(3)
})

test('a new mover takes the place of an old one, whose leaving changes nothing then', async () => {
  const { catalog } = database
  const endpoint = { hostId: 'local', filesUrl: 'http://127.0.0.1:4711', certificate: null }
  expect(await findMoverEndpoint(catalog, 'local')).toBeUndefined()
  await recordMoverEndpoint(catalog, { ...endpoint, instanceId: 'old' })
  const successor = { ...endpoint, filesUrl: 'https://[::1]:4712', certificate: 'PEM', instanceId: 'new' }
  await recordMoverEndpoint(catalog, successor)
  await removeMoverEndpoint(catalog, { hostId: 'local', instanceId: 'old' })
  expect(await findMoverEndpoint(catalog, 'local')).toEqual(successor)
  await removeMoverEndpoint(catalog, { hostId: 'local', instanceId: 'new' })
  expect(await findMoverEndpoint(catalog, 'local')).toBeUndefined()
})
