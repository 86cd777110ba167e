/** The lease of a mount, on a server whose clock jumps. */
import type { WorkflowHandle } from '@temporalio/client'
import type { TestWorkflowEnvironment } from '@temporalio/testing'
import { Worker } from '@temporalio/worker'
import { ApplicationFailure } from '@temporalio/common'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, onTestFinished, test } from 'vitest'
import { failureOf as rejectionOf } from '../test/failure.ts'
import { createSkippingTime, requireTimeSkipping } from '../test/skipping-time.ts'
import { createOperations } from '../temporal/client-operations.ts'
import type { OpenMountRequest, Operations } from '../temporal/operations.ts'
import { workflowBundle } from '../worker/bundle.ts'
import { leaseQuery } from './restore-mount-updates.ts'
import { CONTROL_QUEUE, hostQueue, mountQueue } from './task-queues.ts'

requireTimeSkipping()

const MINUTE = 60_000
const HOUR = 60 * MINUTE

/** What the steps find and leave: a catalog and a host of one mount. */
interface World {
  pinned: boolean
  row: boolean
  unmounting: boolean
  open: boolean
  lastAccess: number
  /** Steps in their order. */
  steps: string[]
  /** Thrown by the step of this name, oldest first. */
  failures: Record<string, Error[]>
  /** Awaited by the step of this name before it does anything. */
  waits: Record<string, Promise<void>>
}

let time: TestWorkflowEnvironment
let operations: Operations
let world: World
let request: OpenMountRequest
let handle: WorkflowHandle
let count = 0

const ended: (() => Promise<void>)[] = []

beforeAll(async () => {
  time = await createSkippingTime()
  const common = { connection: time.nativeConnection, namespace: time.client.options.namespace }
  const codePath = await workflowBundle(inject('cacheFolder'))
  const workers = await Promise.all([
    Worker.create({ ...common, taskQueue: CONTROL_QUEUE, workflowBundle: { codePath }, activities: controlSteps() }),
    Worker.create({ ...common, taskQueue: hostQueue('local'), activities: hostSteps() }),
    Worker.create({ ...common, taskQueue: mountQueue('local'), activities: { holdMount: interrupted } }),
  ])
  const running = workers.map((worker) => worker.run())
  ended.push(async () => {
    for (const worker of workers) worker.shutdown()
    await Promise.all(running)
    await time.teardown()
  })
  operations = createOperations(time.client, { heartbeatTimeoutMs: 30_000, mountDeadlineMs: 20_000, answerDeadlineMs: 20_000 })
})
afterAll(async () => {
  for (const end of ended) await end()
})

beforeEach(() => {
  const mountId = `mount-${++count}`
  world = { pinned: false, row: false, unmounting: false, open: false, lastAccess: 0, steps: [], failures: {}, waits: {} }
  request = { mountId, backupId: `backup-${mountId}`, diskIndex: 0, idleMs: HOUR, maximumMs: 24 * HOUR }
  handle = time.client.workflow.getHandle(`restore-mount:${mountId}`)
  onTestFinished(async () => void (await handle.terminate().catch(() => undefined)))
})

/** Runs as the step of this name: may be told to fail or to wait. */
async function step(name: string, act: () => void): Promise<void> {
  world.steps.push(name)
  await world.waits[name]
  const failure = world.failures[name]?.shift()
  if (failure) throw failure
  act()
}

function controlSteps(): Record<string, (...input: never[]) => Promise<unknown>> {
  return {
    async pinBackup() {
      await step('pinBackup', () => (world.pinned = true))
      return { hostId: 'local', vmName: 'vm', disks: [] }
    },
    recordMount: ({ startedAt }: { startedAt: number }) =>
      step('recordMount', () => Object.assign(world, { row: true, lastAccess: startedAt })),
    async readMountAccess() {
      await step('readMountAccess', () => undefined)
      return world.lastAccess
    },
    noteMountAccess: ({ at }: { at: number }) => step('noteMountAccess', () => (world.lastAccess = at)),
    recordUnmounting: () => step('recordUnmounting', () => (world.unmounting = true)),
    forgetMount: () => step('forgetMount', () => Object.assign(world, { row: false, pinned: false, unmounting: false })),
  }
}

function hostSteps(): Record<string, (...input: never[]) => Promise<unknown>> {
  return {
    openMount: () => step('openMount', () => (world.open = true)),
    closeMount: () => step('closeMount', () => (world.open = false)),
  }
}

/** A step that runs would keep the clock from jumping; one that waits for its next attempt does not. */
function interrupted(): Promise<void> {
  const nextRetryDelay = '1000d'
  return Promise.reject(ApplicationFailure.create({ message: 'interrupted', type: 'MOUNT_INTERRUPTED', nextRetryDelay }))
}

const now = () => time.currentTimeMs()

function refused(work: Promise<unknown>): Promise<boolean> {
  return work.then(
    () => false,
    () => true,
  )
}

function expectNothingLeft(): void {
  expect(world).toMatchObject({ pinned: false, row: false, open: false })
}

/** Resolves with how long the mount lasted, in minutes. */
async function lasted(since: number): Promise<number> {
  await handle.result()
  const { closeTime } = await handle.describe()
  return Math.round((closeTime!.getTime() - since) / MINUTE)
}

describe('a lease', () => {
  test('ends an hour after the disk was mounted when nobody uses it', async () => {
    const began = await now()
    await operations.openMount(request)
    expect(world).toMatchObject({ pinned: true, row: true, open: true })
    expect(await lasted(began)).toBe(60)
    expectNothingLeft()
    expect(world.steps).toEqual([
      'pinBackup',
      'recordMount',
      'openMount',
      'readMountAccess',
      'recordUnmounting',
      'closeMount',
      'forgetMount',
    ])
  })

  test('goes on when the disk was used, which is read only when it would end', async () => {
    const began = await now()
    await operations.openMount(request)
    await time.sleep(40 * MINUTE)
    world.lastAccess = await now()
    expect(world.steps).not.toContain('readMountAccess')
    expect(await lasted(began)).toBe(100)
    expect(world.steps.filter((name) => name === 'readMountAccess')).toHaveLength(2)
    expectNothingLeft()
  })

  test('goes on an hour from when somebody extends it, and says until when', async () => {
    const began = await now()
    await operations.openMount(request)
    await time.sleep(50 * MINUTE)
    const { expiresAt } = await operations.extendMount(request.mountId)
    expect(Math.round((Date.parse(expiresAt) - began) / MINUTE)).toBe(110)
    expect(Math.round((world.lastAccess - began) / MINUTE)).toBe(50)
    expect(await handle.query(leaseQuery)).toMatchObject({ state: 'mounted', expiresAt })
    expect(await lasted(began)).toBe(110)
    expectNothingLeft()
  })

  test('ends after its maximum, however often it is used', async () => {
    request.maximumMs = 150 * MINUTE
    const began = await now()
    await operations.openMount(request)
    await time.sleep(50 * MINUTE)
    world.lastAccess = await now()
    await time.sleep(50 * MINUTE)
    const { expiresAt } = await operations.extendMount(request.mountId)
    expect(Math.round((Date.parse(expiresAt) - began) / MINUTE)).toBe(150)
    world.lastAccess = began + 149 * MINUTE
    expect(await lasted(began)).toBe(150)
    expectNothingLeft()
  })

  test('goes on in a new run when its history grows long', async () => {
    await operations.openMount(request)
    const [first, began] = [await handle.describe(), await now()]
    let { runId } = first
    for (let extended = 0; extended < 1_900 && runId === first.runId; extended += 10) {
      await Promise.all(Array.from({ length: 10 }, () => operations.extendMount(request.mountId)))
      ;({ runId } = await handle.describe())
    }
    expect(runId).not.toBe(first.runId)
    expect(world.steps.filter((name) => name === 'openMount' || name === 'closeMount')).toEqual(['openMount'])
    expect(await handle.query(leaseQuery)).toMatchObject({ state: 'mounted' })
    expect(await lasted(began)).toBe(60)
    expectNothingLeft()
  })
})

describe('opening', () => {
  test('twice gives the same mount, and begins the idle time anew', async () => {
    const began = await now()
    await Promise.all([operations.openMount(request), operations.openMount(request)])
    await time.sleep(30 * MINUTE)
    await operations.openMount(request)
    expect(world.steps.filter((name) => name === 'openMount')).toHaveLength(1)
    expect(await lasted(began)).toBe(90)
  })

  test('a disk that cannot be mounted is refused with the reason and leaves nothing', async () => {
    const details = { found: 'crypto_LUKS' }
    const refusal = { type: 'FILE_SYSTEM_UNREADABLE', message: 'encrypted', details: [details], nonRetryable: true }
    world.failures['openMount'] = [ApplicationFailure.create(refusal)]
    const failures = await Promise.all([rejectionOf(operations.openMount(request)), rejectionOf(operations.openMount(request))])
    for (const failure of failures) expect(failure).toMatchObject({ code: 'FILE_SYSTEM_UNREADABLE', details })
    expectNothingLeft()
    expect(world.steps.slice(-3)).toEqual(['recordUnmounting', 'closeMount', 'forgetMount'])
  })

  test('a backup that is not there is refused before anything is recorded', async () => {
    world.failures['pinBackup'] = [ApplicationFailure.nonRetryable('gone', 'BACKUP_NOT_FOUND', {})]
    expect((await rejectionOf(operations.openMount(request))).code).toBe('BACKUP_NOT_FOUND')
    expect(world.steps).toEqual(['pinBackup', 'forgetMount'])
    expectNothingLeft()
  })

  test('while it is being unmounted waits for the end and mounts anew', async () => {
    await operations.openMount(request)
    const closing = Promise.withResolvers<void>()
    world.waits['closeMount'] = closing.promise
    const released = operations.releaseMount(request.mountId)
    await expect.poll(() => world.steps).toContain('closeMount')
    const opened = operations.openMount(request)
    expect((await rejectionOf(operations.extendMount(request.mountId))).code).toBe('MOUNT_NOT_FOUND')
    closing.resolve()
    await Promise.all([released, opened])
    expect(world).toMatchObject({ open: true, row: true, pinned: true })
    expect(world.steps.filter((name) => name === 'openMount')).toHaveLength(2)
    await operations.releaseMount(request.mountId)
    expectNothingLeft()
  })

  test('that takes longer than the caller waits goes on by itself', async () => {
    const opening = Promise.withResolvers<void>()
    world.waits['openMount'] = opening.promise
    const impatient = createOperations(time.client, { mountDeadlineMs: 2_000 })
    const refusal = await rejectionOf(impatient.openMount(request))
    expect(refusal).toMatchObject({ code: 'MOUNT_NOT_READY', retryable: true, details: { mount_id: request.mountId } })
    opening.resolve()
    await operations.openMount(request)
    expect(world.steps.filter((name) => name === 'openMount')).toHaveLength(1)
    await operations.releaseMount(request.mountId)
  })
})

describe('unmounting', () => {
  test('answers everyone who asks when nothing is left; afterwards there is no such mount', async () => {
    await operations.openMount(request)
    await Promise.all([operations.releaseMount(request.mountId), operations.releaseMount(request.mountId)])
    expectNothingLeft()
    await handle.result()
    const { mountId } = request
    expect((await rejectionOf(operations.releaseMount(mountId))).code).toBe('MOUNT_NOT_FOUND')
    expect((await rejectionOf(operations.extendMount(mountId))).code).toBe('MOUNT_NOT_FOUND')
  })

  test('while the disk is still being mounted stops that', async () => {
    const opening = Promise.withResolvers<void>()
    world.waits['openMount'] = opening.promise
    const opened = rejectionOf(operations.openMount(request))
    await expect.poll(() => world.steps).toContain('openMount')
    const released = operations.releaseMount(request.mountId)
    await expect.poll(() => refused(operations.extendMount(request.mountId))).toBe(true)
    opening.resolve()
    await released
    expect(await opened).toMatchObject({ code: 'CANCELLED', message: expect.stringContaining('released') })
    expectNothingLeft()
  })

  test('happens when the workflow is cancelled, and cannot itself be cancelled', async () => {
    await operations.openMount(request)
    const closing = Promise.withResolvers<void>()
    world.waits['closeMount'] = closing.promise
    await handle.cancel()
    await expect.poll(() => world.steps).toContain('closeMount')
    await handle.cancel()
    closing.resolve()
    await expect(handle.result()).rejects.toThrow(/cancelled/i)
    expectNothingLeft()
  })

  test('is tried until it works', async () => {
    const stuck = ApplicationFailure.create({ message: 'busy', type: 'TOOL_TIMEOUT', nextRetryDelay: 50 })
    world.failures['closeMount'] = Array.from({ length: 5 }, () => stuck)
    await operations.openMount(request)
    await handle.cancel()
    await handle.result().catch(() => undefined)
    expect(world.steps.filter((name) => name === 'closeMount')).toHaveLength(6)
    expectNothingLeft()
  })
})
