/** Looks at repositories by real processes: schedule, workflow, mover, catalog; and a real disk that fills up and empties, turns read-only and goes away. */
import { rename, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { alertState, listAlerts } from '../db/queries/alerts.ts'
import { REFRESH_STORAGE_WORKFLOW_ID, STORAGE_MONITOR_SCHEDULE_ID, lookAtRepositoryWorkflowId } from '../temporal/workflow-ids.ts'
import { createScenario, MIB, registerRepository } from '../test/backup-scenario.ts'
import type { Scenario } from '../test/backup-scenario.ts'
import { failureOf } from '../test/failure.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { eventCount, recordHistory } from '../test/recorded-histories.ts'
import { requireTool } from '../test/requires.ts'
import { createSmallDisk } from '../test/small-disk.ts'
import type { SmallDisk } from '../test/small-disk.ts'
import { runTool } from '../tools/run-tool.ts'

requireTool('qemu-nbd')
requireTool('mkfs.ext4')

const INTERVAL_SECONDS = 5

let holdfast: HoldfastProcesses
let disk: SmallDisk
/** Its repository is alone on `disk`. */
let vm: Scenario
let other: Awaited<ReturnType<typeof registerRepository>>

beforeAll(async () => {
  holdfast = await createHoldfastProcesses(['control', 'mover'], { HOLDFAST_MONITOR_INTERVAL_SECONDS: String(INTERVAL_SECONDS) })
  disk = await createSmallDisk(96 * MIB)
  vm = await createScenario(holdfast, [4 * MIB], disk.path)
  other = await registerRepository(holdfast)
})
afterAll(async () => {
  await holdfast?.close()
  await disk?.remove()
})

const rowOf = (id = vm.repositoryId) =>
  holdfast.catalog.selectFrom('backup_repositories').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
const healthOf = async (id: string) => (await rowOf(id)).health
const lookAt = (repositoryId: string) => holdfast.operations.lookAtRepository({ repositoryId, hostId: 'local' })

test('the schedule looks at what is there, in its interval', async () => {
  expect(await rowOf(), 'as it was registered').toMatchObject({ health: 'healthy' })
  const { last_check_at: first } = await rowOf()
  await expect.poll(async () => (await rowOf()).last_check_at).not.toEqual(first)
  const schedule = holdfast.client.schedule.getHandle(STORAGE_MONITOR_SCHEDULE_ID)
  const { spec, policies } = await schedule.describe()
  expect([spec.intervals?.[0]?.every, spec.jitter, policies]).toMatchObject([
    INTERVAL_SECONDS * 1000,
    INTERVAL_SECONDS * 100,
    { overlap: 'SKIP', catchupWindow: 60_000 },
  ])
  // From here on only the tests say when it looks.
  await schedule.pause()
})

describe('a repository whose folder', () => {
  test('is gone is offline, with one alert however often it is looked at, and comes back', async () => {
    const { repositoryId, repositoryPath } = other
    await rename(repositoryPath, `${repositoryPath}-moved`)
    for (let turn = 0; turn < 3; turn++) {
      const refresh = await holdfast.operations.refreshStorage()
      expect(refresh).toMatchObject({ refreshedCount: 1, failedCount: 1, offline: [{ repositoryId }] })
    }
    await recordHistory(holdfast.client, 'monitor-storage-offline', { workflowId: REFRESH_STORAGE_WORKFLOW_ID })
    expect(await rowOf(repositoryId)).toMatchObject({ health: 'offline', health_message: expect.stringMatching(/not mounted/) })
    expect(await healthOf(vm.repositoryId)).toBe('healthy')
    const offline = await listAlerts(holdfast.catalog, { kind: 'repository_offline' }, { limit: 10 })
    expect(offline).toMatchObject([{ repository_id: repositoryId, resolved_at: null }])
    expect(holdfast.output()).toContain(`Repository \\"${repositoryId}\\" is offline`)

    await rename(`${repositoryPath}-moved`, repositoryPath)
    expect(await lookAt(repositoryId)).toEqual({ refreshedCount: 1, failedCount: 0, offline: [] })
    await recordHistory(holdfast.client, 'look-at-repository', { workflowId: lookAtRepositoryWorkflowId(repositoryId) })
    expect(await healthOf(repositoryId)).not.toBe('offline')
    const filter = { kind: 'repository_offline', state: 'unresolved' } as const
    expect(await listAlerts(holdfast.catalog, filter, { limit: 10 })).toEqual([])
    expect(await eventCount(holdfast.client, { workflowId: REFRESH_STORAGE_WORKFLOW_ID })).toBeLessThan(60)
  })

  test('is that of another repository is offline, too', async () => {
    const marker = join(other.repositoryPath, 'holdfast-repository.json')
    await rename(marker, `${marker}.away`)
    await writeFile(marker, JSON.stringify({ id: 'repo-other', format_version: 1, created_at: new Date().toISOString() }))
    const { offline } = await lookAt(other.repositoryId)
    expect(offline).toMatchObject([{ code: 'REPO_UNAVAILABLE', message: expect.stringContaining('repo-other') }])
    await rm(marker)
    await rename(`${marker}.away`, marker)
  })

  test('is not registered is not looked at', async () => {
    expect(await lookAt('repo-none')).toEqual({ refreshedCount: 0, failedCount: 0, offline: [] })
  })
})

describe('a disk', () => {
  test('of which 90 and 95 per cent are used, up and down', async () => {
    const seen: string[] = []
    for (const percent of [50, 91, 96, 92, 92, 80]) {
      await fillTo(percent)
      seen.push(`${percent}: ${await standing()}`)
    }
    expect(seen).toEqual([
      '50: healthy open on',
      '91: warning open on storage_warning',
      '96: critical stopped on storage_critical',
      '92: critical stopped on storage_critical',
      '92: critical stopped on storage_critical',
      '80: healthy open on',
    ])
    expect(await listAlerts(holdfast.catalog, { repositoryId: vm.repositoryId }, { limit: 50 })).toHaveLength(2)
    const { used_size_bytes, available_size_bytes, used_inodes, latency_ms } = await rowOf()
    expect(Math.round((100 * used_size_bytes) / (used_size_bytes + available_size_bytes))).toBe(80)
    expect([used_inodes > 10, latency_ms !== null]).toEqual([true, true])
  })

  test('that is too full takes no new backup, and takes one again by itself when there is room', async () => {
    await fillTo(97)
    await lookAt(vm.repositoryId)
    const refused = await failureOf(vm.start())
    expect([refused.code, refused.details]).toEqual([
      'REPO_CRITICAL',
      expect.objectContaining({ repository_id: vm.repositoryId, used_percentage: expect.closeTo(97, 0) }),
    ])
    await fillTo(10)
    await lookAt(vm.repositoryId)
    expect(await vm.backUp()).toMatchObject({ status: 'completed' })
  })

  test('that turned read-only takes none until it is writable again', async () => {
    await runTool('mount', ['-o', 'remount,ro', disk.path], { timeoutMs: 10_000 })
    expect(await standing()).toBe('critical stopped on repository_read_only')
    await runTool('mount', ['-o', 'remount,rw', disk.path], { timeoutMs: 10_000 })
    expect(await standing()).toBe('healthy open on')
  })

  test('that is gone is offline, and the folder below it never passes for it; switched off, it comes back switched off', async () => {
    await disk.unmount()
    expect(await standing()).toBe('offline open on repository_offline')
    expect((await rowOf()).health_message).toMatch(/not mounted/)
    expect((await failureOf(vm.start())).code).toBe('REPO_UNAVAILABLE')
    const { catalog } = holdfast
    await catalog.updateTable('backup_repositories').set({ enabled: false }).where('id', '=', vm.repositoryId).execute()
    await disk.mount()
    expect(await standing()).toBe('healthy open off')
    expect((await failureOf(vm.start())).code).toBe('REPO_DISABLED')
  })
})

test('without a mover all of its repositories are offline and the message says why; a mover that starts has them looked at', async () => {
  await holdfast.stop('mover')
  expect(await holdfast.operations.refreshStorage()).toMatchObject({ failedCount: 2 })
  expect((await rowOf()).health_message).toMatch(/^Nobody could look: the mover of host "local"/)
  await holdfast.start('mover')
  await expect.poll(() => healthOf(vm.repositoryId)).toBe('healthy')
  await expect.poll(() => healthOf(other.repositoryId)).not.toBe('offline')
})

/** Fills the disk, or empties it, until so much of it is used. */
async function fillTo(percent: number): Promise<void> {
  const filler = join(disk.path, 'somebody-else')
  await rm(filler, { force: true })
  const { blocks, bfree, bavail, bsize } = await statfs(disk.path)
  const usedBytes = (blocks - bfree) * bsize
  const bytes = Math.round((percent / 100) * (usedBytes + bavail * bsize)) - usedBytes
  if (bytes > 0) await runTool('fallocate', ['-l', String(bytes), filler], { timeoutMs: 10_000 })
}

/** Of the repository on the disk, as a look now finds it: health, what the monitor and the administrator decided, unresolved alerts. */
async function standing(): Promise<string> {
  await lookAt(vm.repositoryId)
  const { health, stopped_at, enabled } = await rowOf()
  const alerts = await listAlerts(holdfast.catalog, { repositoryId: vm.repositoryId }, { limit: 50 })
  const open = alerts.filter((row) => alertState(row) !== 'resolved').map(({ kind }) => kind)
  return [health, stopped_at === null ? 'open' : 'stopped', enabled ? 'on' : 'off', ...open.toSorted()].join(' ')
}
