/** Looks at repositories by real processes: schedule, workflow, mover, catalog. */
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { registerRepository } from '../test/backup-scenario.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { eventCount, recordHistory } from '../test/recorded-histories.ts'
import { listAlerts } from '../db/queries/alerts.ts'
import { REFRESH_STORAGE_WORKFLOW_ID, STORAGE_MONITOR_SCHEDULE_ID, lookAtRepositoryWorkflowId } from '../temporal/workflow-ids.ts'

const INTERVAL_SECONDS = 5

let holdfast: HoldfastProcesses
let good: Awaited<ReturnType<typeof registerRepository>>
let bad: Awaited<ReturnType<typeof registerRepository>>

beforeAll(async () => {
  holdfast = await createHoldfastProcesses(['control', 'mover'], { HOLDFAST_MONITOR_INTERVAL_SECONDS: String(INTERVAL_SECONDS) })
  good = await registerRepository(holdfast)
  bad = await registerRepository(holdfast)
})
afterAll(() => holdfast?.close())

const rowOf = (id: string) =>
  holdfast.catalog.selectFrom('backup_repositories').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
const healthOf = async (id: string) => (await rowOf(id)).health
const moved = () => `${bad.repositoryPath}-moved`

test('the schedule looks at what is there, in its interval', async () => {
  await expect.poll(() => healthOf(good.repositoryId)).not.toBe('unknown')
  const { last_check_at: first } = await rowOf(good.repositoryId)
  await expect.poll(async () => (await rowOf(good.repositoryId)).last_check_at).not.toEqual(first)
  const { spec, policies } = await holdfast.client.schedule.getHandle(STORAGE_MONITOR_SCHEDULE_ID).describe()
  expect([spec.intervals?.[0]?.every, spec.jitter, policies]).toMatchObject([
    INTERVAL_SECONDS * 1000,
    INTERVAL_SECONDS * 100,
    { overlap: 'SKIP', catchupWindow: 60_000 },
  ])
  // From here on only the test says when it looks.
  await holdfast.client.schedule.getHandle(STORAGE_MONITOR_SCHEDULE_ID).pause()
})

test('a repository that is gone is offline, with one alert however often it is looked at, and comes back', async () => {
  await rename(bad.repositoryPath, moved())
  for (let turn = 0; turn < 3; turn++) {
    const refresh = await holdfast.operations.refreshStorage()
    expect(refresh).toMatchObject({ refreshedCount: 1, failedCount: 1, offline: [{ repositoryId: bad.repositoryId }] })
  }
  await recordHistory(holdfast.client, 'monitor-storage-offline', { workflowId: REFRESH_STORAGE_WORKFLOW_ID })
  expect(await rowOf(bad.repositoryId)).toMatchObject({ health: 'offline', health_message: expect.stringMatching(/not mounted/) })
  expect(await healthOf(good.repositoryId)).not.toBe('offline')
  const { repositoryId } = bad
  const offline = await listAlerts(holdfast.catalog, { kind: 'repository_offline' }, { limit: 10 })
  expect(offline).toMatchObject([{ repository_id: repositoryId, resolved_at: null }])
  expect(holdfast.output()).toContain(`Repository \\"${repositoryId}\\" is offline`)

  await rename(moved(), bad.repositoryPath)
  const look = await holdfast.operations.lookAtRepository({ repositoryId, hostId: 'local' })
  expect(look).toEqual({ refreshedCount: 1, failedCount: 0, offline: [] })
  await recordHistory(holdfast.client, 'look-at-repository', { workflowId: lookAtRepositoryWorkflowId(repositoryId) })
  expect(await healthOf(repositoryId)).not.toBe('offline')
  expect(await listAlerts(holdfast.catalog, { kind: 'repository_offline', state: 'unresolved' }, { limit: 10 })).toEqual([])
  expect(await eventCount(holdfast.client, { workflowId: REFRESH_STORAGE_WORKFLOW_ID })).toBeLessThan(60)
})

test('in the place of another repository it is offline, too', async () => {
  const marker = join(bad.repositoryPath, 'holdfast-repository.json')
  await rename(marker, `${marker}.away`)
  await writeFile(marker, JSON.stringify({ id: 'repo-other', format_version: 1, created_at: new Date().toISOString() }))
  const { offline } = await holdfast.operations.lookAtRepository({ repositoryId: bad.repositoryId, hostId: 'local' })
  expect(offline).toMatchObject([{ code: 'REPO_UNAVAILABLE', message: expect.stringContaining('repo-other') }])
  await rm(marker)
  await rename(`${marker}.away`, marker)
})

test('without a mover all of its repositories are offline and the message says why; a mover that starts has them looked at', async () => {
  await holdfast.stop('mover')
  const { failedCount } = await holdfast.operations.refreshStorage()
  expect(failedCount).toBe(2)
  expect((await rowOf(good.repositoryId)).health_message).toMatch(/^Nobody could look: the mover of host "local"/)
  await holdfast.start('mover')
  await expect.poll(() => healthOf(good.repositoryId)).not.toBe('offline')
  await expect.poll(() => healthOf(bad.repositoryId)).not.toBe('offline')
})

test('looks at what is no longer registered do nothing', async () => {
  expect(await holdfast.operations.lookAtRepository({ repositoryId: 'repo-none', hostId: 'local' })).toEqual({
    refreshedCount: 0,
    failedCount: 0,
    offline: [],
  })
})
