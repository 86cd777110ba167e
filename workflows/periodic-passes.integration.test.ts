/** Periodic passes with steps that are only pretended: what a repository that does not answer, or is gone, keeps waiting or leaves behind. */
import { ApplicationFailure } from '@temporalio/common'
import type { TestWorkflowEnvironment } from '@temporalio/testing'
import { Worker } from '@temporalio/worker'
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest'
import type { AbandonedWork, Repair } from '../activities/reconciliation.ts'
import { createSkippingTime, requireTimeSkipping } from '../test/skipping-time.ts'
import { createTemporaryFolder } from '../test/temporary-folder.ts'
import { workflowBundle } from '../worker/bundle.ts'
import { CONTROL_QUEUE, hostQueue, lookQueue } from './task-queues.ts'

requireTimeSkipping()

let time: TestWorkflowEnvironment
let count = 0
/** What `findAbandonedWork` finds. */
let abandoned: AbandonedWork[]
/** Ids, as their settling begins, and what happens to it. */
let begun: string[]
let settle: (id: string) => Promise<void>

const ended: (() => Promise<void>)[] = []

beforeAll(async () => {
  time = await createSkippingTime()
  const folder = await createTemporaryFolder()
  const common = { connection: time.nativeConnection, namespace: time.client.options.namespace }
  const codePath = await workflowBundle(folder.path)
  const nothing = async (): Promise<Repair[]> => []
  const control = {
    findAbandonedWork: async () => ({ abandoned, hostIds: ['local', 'far'] }),
    removeAbandonedPins: async (): Promise<Repair[]> => (begun.push('pins'), []),
    removeUnusedCredentials: nothing,
    listRepositoriesToLookAt: async () => ['gone', 'away'].map((id) => ({ id, type: 'nfs', config: {}, hostId: 'local' })),
    recordLook: async () => null,
    pruneMonitoring: async () => undefined,
  }
  const host = {
    async settleAbandoned({ id }: { id: string }): Promise<Repair[]> {
      begun.push(id)
      await settle(id)
      return [{ kind: 'backup', what: id }]
    },
    inspectHost: async (hostId: string) => (begun.push(`inspect ${hostId}`), { repairs: [], leftovers: [] }),
    removeSourceOrphans: nothing,
    forgetRepository: async ({ repositoryId }: { repositoryId: string }) => void begun.push(`forget ${repositoryId}`),
  }
  const looks = {
    lookAtRepository: async ({ id }: { id: string }) => ({
      reached: false,
      code: id === 'away' ? 'MOVER_UNAVAILABLE' : 'REPO_UNAVAILABLE',
      message: '',
      latencyMs: 1,
    }),
  }
  const workers = await Promise.all([
    Worker.create({ ...common, taskQueue: CONTROL_QUEUE, workflowBundle: { codePath }, activities: control }),
    Worker.create({ ...common, taskQueue: hostQueue('local'), activities: host }),
    Worker.create({ ...common, taskQueue: hostQueue('far'), activities: host }),
    Worker.create({ ...common, taskQueue: lookQueue('local'), activities: looks }),
  ])
  const running = workers.map((worker) => worker.run())
  ended.push(async () => {
    for (const worker of workers) worker.shutdown()
    await Promise.all(running)
    await time.teardown()
    await folder.remove()
  })
})
afterAll(async () => {
  for (const end of ended) await end()
})

beforeEach(() => {
  begun = []
  settle = async () => undefined
})

function backup(id: string, repositoryId: string, hostId = 'local'): AbandonedWork {
  return { kind: 'backup', id, hostId, repositoryId }
}

async function start(): Promise<() => Promise<string[]>> {
  const handle = await time.client.workflow.start('reconcile', {
    workflowId: `reconcile-${++count}`,
    taskQueue: CONTROL_QUEUE,
    args: [{ heartbeatTimeoutMs: 30_000 }],
  })
  onTestFinished(async () => void (await handle.terminate().catch(() => undefined)))
  return async () => ((await handle.result()) as Repair[]).map(({ what }) => what)
}

test('one repository that does not answer keeps only its own work waiting', async () => {
  abandoned = [backup('dead-1', 'dead'), backup('dead-2', 'dead'), backup('well-1', 'well'), backup('far-1', 'other', 'far')]
  abandoned.push({ kind: 'restore', id: 'restore-1', hostId: 'local', repositoryId: 'dead' })
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>()
  settle = (id) => (id.startsWith('dead') ? answered : Promise.resolve())
  const result = await start()
  await expect.poll(() => begun.toSorted(), { timeout: 20_000 }).toEqual(['dead-1', 'far-1', 'restore-1', 'well-1'])
  // The pin of a reader goes only after that has been settled.
  expect(begun).not.toContain('pins')
  answer()
  expect((await result()).toSorted()).toEqual(['dead-1', 'dead-2', 'far-1', 'restore-1', 'well-1'])
  expect(begun).toContain('pins')
})

test('a repository that refused one is not asked about the others, and what it refused is told', async () => {
  abandoned = [backup('dead-1', 'dead'), backup('dead-2', 'dead'), backup('well-1', 'well')]
  const away = () => ApplicationFailure.create({ type: 'REPO_UNAVAILABLE', message: 'No answer.', nonRetryable: true })
  settle = (id) => (id === 'dead-1' ? Promise.reject(away()) : Promise.resolve())
  const found = await (await start())()
  expect(begun).not.toContain('dead-2')
  expect(found).toContain('well-1')
  expect(found.filter((what) => what.includes('REPO_UNAVAILABLE'))).toHaveLength(1)
})

test('a look at a repository that was deleted meanwhile leaves nothing mounted', async () => {
  const input = { moverPatienceMs: 30_000, heartbeatTimeoutMs: 30_000 }
  const workflowId = `monitor-${++count}`
  await time.client.workflow.execute('monitorStorage', { workflowId, taskQueue: CONTROL_QUEUE, args: [input] })
  expect(begun).toEqual(['forget gone'])
})

test('other failures do not keep a repository from being repaired', async () => {
  abandoned = [backup('broken', 'well'), backup('well-1', 'well')]
  const broken = () => ApplicationFailure.create({ type: 'CORRUPT_CHAIN', message: 'Broken.', nonRetryable: true })
  settle = (id) => (id === 'broken' ? Promise.reject(broken()) : Promise.resolve())
  expect(await (await start())()).toContain('well-1')
  expect(begun).toEqual(expect.arrayContaining(['inspect local', 'inspect far']))
})
