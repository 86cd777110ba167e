/** Parked backups, on a server whose clock jumps: waits of hours, and what ends them. */
import type { WorkflowHandle } from '@temporalio/client'
import { ApplicationFailure } from '@temporalio/common'
import type { TestWorkflowEnvironment } from '@temporalio/testing'
import { Worker } from '@temporalio/worker'
import { afterAll, beforeAll, beforeEach, expect, inject, onTestFinished, test } from 'vitest'
import type { ErrorCode, JsonObject } from '../domain/errors.ts'
import { createSkippingTime, requireTimeSkipping } from '../test/skipping-time.ts'
import { createOperations } from '../temporal/client-operations.ts'
import { workflowBundle } from '../worker/bundle.ts'
import { CONTROL_QUEUE, hostQueue, transferQueue } from './task-queues.ts'

requireTimeSkipping()

const HOUR = 60 * 60_000
/** The server's own limit is 51 200; then it ends the workflow. */
const HISTORY_EVENTS_MAX = 50_000
const admission = { backupType: 'full', fullReason: 'requested', fullReasonDetail: null, parentBackupId: null, decided: true }

let time: TestWorkflowEnvironment
let backupId: string
let handle: WorkflowHandle
let count = 0
/** Steps in their order, and what the next ones of a name throw, oldest first. */
let steps: string[]
let failures: Record<string, Error[]>

const ended: (() => Promise<void>)[] = []

beforeAll(async () => {
  time = await createSkippingTime()
  const common = { connection: time.nativeConnection, namespace: time.client.options.namespace }
  const codePath = await workflowBundle(inject('cacheFolder'))
  const control = stepsOf({ recordBackup: { hostId: 'local' }, recordBackupEnd: null, parkBackup: null, unparkBackup: null })
  const host = stepsOf({
    admitBackup: { admission, disks: [{ index: 0, label: 'disk 0', backupType: 'full' }] },
    stageBackup: null,
    beginSnapshot: { id: 'snapshot', disks: [] },
    awaitRepository: null,
    publishBackup: null,
    recordPublication: { toBeLocked: false },
    endSnapshot: null,
    discardBackup: null,
  })
  const workers = await Promise.all([
    Worker.create({ ...common, taskQueue: CONTROL_QUEUE, workflowBundle: { codePath }, activities: control }),
    Worker.create({ ...common, taskQueue: hostQueue('local'), activities: host }),
    Worker.create({ ...common, taskQueue: transferQueue('local', 'repo'), activities: stepsOf({ transferDisk: {} }) }),
  ])
  const running = workers.map((worker) => worker.run())
  ended.push(async () => {
    for (const worker of workers) worker.shutdown()
    await Promise.all(running)
    await time.teardown()
  })
})
afterAll(async () => {
  for (const end of ended) await end()
})

beforeEach(() => {
  backupId = `backup-${++count}`
  steps = []
  failures = {}
  handle = time.client.workflow.getHandle(`vm-chain:${backupId}`)
  onTestFinished(async () => void (await handle.terminate().catch(() => undefined)))
})

/** Each answers what it is given, unless it is told to fail. */
function stepsOf(answers: Record<string, unknown>): Record<string, () => Promise<unknown>> {
  const step = (name: string) => async (): Promise<unknown> => {
    steps.push(name)
    const failure = failures[name]?.shift()
    if (failure) throw failure
    return answers[name]
  }
  return Object.fromEntries(Object.keys(answers).map((name) => [name, step(name)]))
}

function failing(code: ErrorCode, details: JsonObject = {}, nonRetryable = true): Error {
  return ApplicationFailure.create({ type: code, message: `${code}.`, details: [details], nonRetryable })
}

const full = (checkpoint = 0): Error => failing('INSUFFICIENT_STORAGE', { repository_id: 'repo', checkpoint_bytes: checkpoint })
const away = (): Error => failing('REPO_UNAVAILABLE')
const notYet = (times: number): Error[] => Array.from({ length: times }, () => failing('REPO_UNAVAILABLE', {}, false))

/** `looks`: for tests that act while the backup is parked. The clock jumps only while somebody waits for the end. */
async function start(looks?: { firstMs: number; mostMs: number }): Promise<void> {
  const operations = createOperations(time.client, { heartbeatTimeoutMs: 30_000, ...(looks && { parkingLooks: looks }) })
  const what = { backupType: 'full', compression: 'none', rateLimitBytesPerSecond: null } as const
  await operations.startBackup({ backupId, vmContextId: backupId, repositoryId: 'repo', ...what })
}

/** By the workflow's own times: once nothing is left to do, the server's clock may have jumped years ahead before we ask it. */
async function tookMs(): Promise<number> {
  const { startTime, closeTime } = await handle.describe()
  if (!closeTime) throw new Error('The backup has not ended.')
  return closeTime.getTime() - startTime.getTime()
}

const often = { firstMs: 10, mostMs: 20 }
const parking = ['parkBackup', 'awaitRepository', 'unparkBackup']
const before = ['recordBackup', 'admitBackup', 'stageBackup', 'beginSnapshot']
const after = ['publishBackup', 'endSnapshot', 'recordPublication']

function runOf(...middle: string[]): string[] {
  return [...before, ...middle, ...after].toSorted()
}

test('a disk whose repository is full waits for hours and goes on, and its history stays short', async () => {
  failures = { transferDisk: [full()], awaitRepository: notYet(130) }
  await start()
  await handle.result()
  expect(await tookMs()).toBeGreaterThan(2 * HOUR)
  const looks = steps.filter((name) => name === 'awaitRepository').length
  expect(looks).toBe(131)
  expect(steps.filter((name) => name !== 'awaitRepository').toSorted()).toEqual(
    runOf('transferDisk', 'parkBackup', 'unparkBackup', 'transferDisk'),
  )
  const disk = time.client.workflow.getHandle(`vm-chain:${backupId}/${backupId}/disk-0`)
  expect((await disk.describe()).historyLength).toBeLessThan(60)
})

test('a repository that looks well although nothing gets further is tried less and less often', async () => {
  failures = { transferDisk: [full(5), full(5), full(5), full(5), full(9), full(9)] }
  await start()
  await handle.result()
  // 5, 10, 20 and 40 seconds; then it got further, and begins anew with 5 and 10. Otherwise it would be 30, or 315.
  const took = await tookMs()
  expect(took).toBeGreaterThanOrEqual(90_000)
  expect(took).toBeLessThan(200_000)
})

test('a year of futile tries fits into the history of a backup', async () => {
  failures = { publishBackup: Array.from({ length: 40 }, () => full()) }
  await start()
  await handle.result()
  const { historyLength } = await handle.describe()
  const looks = steps.filter((name) => name === 'awaitRepository').length
  const eventsPerTry = historyLength / looks
  // The first tries double, so that nobody waits much longer than it has been failing; the others are apart as the last two.
  const doublingMs = (await tookMs()) - 27 * 6 * HOUR
  expect(doublingMs).toBeGreaterThan(10 * HOUR)
  expect(doublingMs).toBeLessThan(13 * HOUR)
  expect(eventsPerTry * (13 + (365 * 24) / 6)).toBeLessThan(HISTORY_EVENTS_MAX)
})

test.each(['stageBackup', 'publishBackup', 'recordPublication'])('%s waits, too, and nothing is copied again', async (name) => {
  failures = { [name]: [full(), away()], awaitRepository: notYet(3) }
  await start()
  await handle.result()
  const extra = [name, name, ...parking, ...parking, ...Array.from({ length: 3 }, () => 'awaitRepository')]
  expect(steps.toSorted()).toEqual(runOf('transferDisk', ...extra))
})

test.each(['stageBackup', 'transferDisk', 'publishBackup'])('cancelled while %s waits it cleans up', async (name) => {
  failures = { [name]: [away()], awaitRepository: notYet(10_000) }
  await start(often)
  await expect.poll(() => steps.filter((step) => step === 'awaitRepository').length, { timeout: 10_000 }).toBeGreaterThan(2)
  await handle.cancel()
  await expect(handle.result()).rejects.toThrow(/cancelled/i)
  // A look that was under way may end last.
  expect(steps.filter((step) => step !== 'awaitRepository').slice(-2)).toEqual(['discardBackup', 'recordBackupEnd'])
  expect(steps).not.toContain('recordPublication')
  expect(steps.includes('endSnapshot')).toBe(name !== 'stageBackup')
  expect((await handle.describe()).status.name).toBe('CANCELLED')
})

test('a clean-up that a dead share refuses does not hold up the end, and the snapshot is ended first', async () => {
  failures = { transferDisk: [away()], awaitRepository: notYet(10_000), discardBackup: [away()] }
  await start(often)
  await expect.poll(() => steps, { timeout: 10_000 }).toContain('awaitRepository')
  await handle.cancel()
  await expect(handle.result()).rejects.toThrow(/cancelled/i)
  expect(steps.filter((step) => step !== 'awaitRepository').slice(-3)).toEqual([
    'endSnapshot',
    'discardBackup',
    'recordBackupEnd',
  ])
})

test('a snapshot that was given up meanwhile ends the wait', async () => {
  failures = { transferDisk: [full()], awaitRepository: [failing('INSUFFICIENT_STORAGE', { folder: '/var/tmp' })] }
  await start()
  await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'INSUFFICIENT_STORAGE' } })
  expect(steps).toContain('endSnapshot')
})
