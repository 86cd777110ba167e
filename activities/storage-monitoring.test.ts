import { describe, expect, test } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import type { StorageInfo } from '../domain/storage.ts'
import { lookAt } from './storage-monitoring.ts'

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
