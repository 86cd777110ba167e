import { MockActivityEnvironment } from '@temporalio/testing'
import { describe, expect, test, vi } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import type { StorageInfo } from '../domain/storage.ts'
import type { HostedRepository } from '../hosting/hosted-repository.ts'
import { createLookActivities, lookAt } from './storage-monitoring.ts'

const storage: StorageInfo = { totalBytes: 10, usedBytes: 4, availableBytes: 6, totalInodes: 0, usedInodes: 0, writable: true }
const never = () => new Promise<never>(() => {})

function place(readIdentity: () => Promise<string | null>, readStorage: () => Promise<StorageInfo> = async () => storage) {
  return () => ({ readIdentity, storage: readStorage })
}

const refused = new HoldfastError('REPO_AUTHENTICATION_FAILED', 'The server refuses the password.')
const looking = (open: ReturnType<typeof place>) => lookAt({ id: 'repo-1' }, open, { deadlineMs: 50 })

describe('a look', () => {
  test('tells the space and how long it took', async () => {
    const look = await looking(place(async () => 'repo-1'))
    expect(look).toEqual({ reached: true, storage, latencyMs: expect.any(Number) })
  })

  test('ends at once when it is aborted, whatever hangs', async () => {
    const stopping = new AbortController()
    const look = lookAt({ id: 'repo-1' }, place(never), { deadlineMs: 60_000, signal: stopping.signal })
    stopping.abort()
    expect(await look).toMatchObject({ reached: false })
  })

  test.each([
    ['an empty folder', place(async () => null), 'REPO_UNAVAILABLE', /not mounted/],
    ['another repository', place(async () => 'repo-2'), 'REPO_UNAVAILABLE', /repo-2/],
    ['a share that hangs before', place(never), 'REPO_UNAVAILABLE', /did not answer within 0\.05 s/],
    ['a share that hangs behind', place(async () => 'repo-1', never), 'REPO_UNAVAILABLE', /did not answer/],
    ['a refusal', place(() => Promise.reject(refused)), 'REPO_AUTHENTICATION_FAILED', /refuses the password/],
    [
      'a configuration that cannot be',
      () => {
        throw new HoldfastError('REPO_INVALID', 'No path.')
      },
      'REPO_INVALID',
      /No path/,
    ],
    ['a mistake of ours', place(() => Promise.reject(new TypeError('/etc/secret'))), 'INTERNAL', /^(?!.*secret)/],
  ])('at %s is an answer', async (_, open, code, message) => {
    expect(await looking(open)).toEqual({
      reached: false,
      code,
      message: expect.stringMatching(message),
      latencyMs: expect.any(Number),
    })
  })
})

describe('the step', () => {
  const record = { id: 'repo-1', type: 'local', config: { path: '/srv/repo' }, credentialsId: null } as const
  const stepOn = (repository: Partial<HostedRepository>) => {
    // Only what a look uses.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    const open = (): HostedRepository => ({ root: '/srv/repo', storage: async () => storage, ...repository }) as HostedRepository
    const targets = { checkRestoreTarget: never, discardRestore: never }
    const repositories = { open, mount: never, unmount: never, forget: never, close: never, targets }
    const steps = createLookActivities({ repositories })
    return () => steps.lookAtRepository(record)
  }

  test('does not wait for a reserve that takes long, and has it made once', async () => {
    const keepReserve = vi.fn<typeof never>(never)
    const step = stepOn({ readIdentity: async () => 'repo-1', keepReserve })
    const began = performance.now()
    for (const environment of [new MockActivityEnvironment(), new MockActivityEnvironment()]) {
      expect(await environment.run(step)).toMatchObject({ reached: true, storage })
    }
    expect(performance.now() - began).toBeLessThan(3_500)
    expect(keepReserve).toHaveBeenCalledOnce()
  })

  test('asks nothing anew of a disk that has not answered yet', async () => {
    const readIdentity = vi.fn<typeof never>(never)
    const step = stepOn({ readIdentity })
    for (const environment of [new MockActivityEnvironment(), new MockActivityEnvironment()]) {
      const look = environment.run(step)
      await expect.poll(() => readIdentity.mock.calls.length).toBeGreaterThan(0)
      environment.cancel()
      await expect(look).rejects.toThrow(/CANCELLED/i)
    }
    expect(readIdentity).toHaveBeenCalledOnce()
  })
})
