import { beforeEach, expect, it, vi } from 'vitest'
import type { runWorker } from './running-worker.ts'
import { TransferWorkers } from './transfer-workers.ts'

const stop = vi.fn<() => Promise<void>>(async () => undefined)
const run = vi.fn<typeof runWorker>(async () => ({ stop }))
beforeEach(() => vi.clearAllMocks())

it('a repository that is gone has its worker stopped, once, and can come back', async () => {
  const workers = new TransferWorkers('local', {}, () => undefined, run)
  await workers.attach('repo-1')
  await workers.attach('repo-2')
  await workers.detach('repo-1')
  await workers.detach('repo-1')
  await workers.detach('repo-3')
  expect(stop).toHaveBeenCalledOnce()
  await workers.attach('repo-1')
  expect(run.mock.calls.map(([{ taskQueue }]) => taskQueue)).toEqual([
    expect.stringContaining('repo-1'),
    expect.stringContaining('repo-2'),
    expect.stringContaining('repo-1'),
  ])
  await workers.stop()
  expect(stop).toHaveBeenCalledTimes(3)
})
