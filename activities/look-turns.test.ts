import { expect, test, vi } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import { lookInTurn, type Look } from './look-turns.ts'

const away = new HoldfastError('REPO_UNAVAILABLE', 'The server does not answer.')
const full = new HoldfastError('INSUFFICIENT_STORAGE', 'Full.', { details: { repository_id: 'repo' } })

function looking() {
  const { promise, resolve, reject } = Promise.withResolvers<HoldfastError | null>()
  return { look: vi.fn<() => Look>(() => promise), resolve, reject }
}

test('a look that hangs keeps nobody else waiting', async () => {
  const pending = new Map<string, Look>()
  const hanging = looking()
  const first = lookInTurn(pending, 'repo', hanging.look)
  const second = vi.fn<() => Look>(async () => null)
  expect(await lookInTurn(pending, 'repo', second, 10)).toMatchObject({ code: 'REPO_UNAVAILABLE', retryable: true })
  expect(second).not.toHaveBeenCalled()
  expect(await lookInTurn(pending, 'other', second, 10)).toBeNull()
  hanging.resolve(away)
  expect(await first).toBe(away)
  expect(pending.size).toBe(0)
})

test.each([
  ['away, everybody hears it', away, away, 0],
  ['there but full, everybody counts for himself', full, null, 1],
  ['well, everybody counts for himself', null, null, 1],
])('once it is known that the repository is %s', async (_, found, heard, calls) => {
  const pending = new Map<string, Look>()
  const slow = looking()
  const first = lookInTurn(pending, 'repo', slow.look)
  const second = vi.fn<() => Look>(async () => null)
  const others = lookInTurn(pending, 'repo', second)
  slow.resolve(found)
  expect([await first, await others]).toEqual([found, heard])
  expect(second).toHaveBeenCalledTimes(calls)
  expect(pending.size).toBe(0)
})

test('a look that fails is nobody else’s failure', async () => {
  const pending = new Map<string, Look>()
  const failing = looking()
  const first = lookInTurn(pending, 'repo', failing.look)
  const others = lookInTurn(pending, 'repo', async () => null)
  failing.reject(new Error('unforeseen'))
  await expect(first).rejects.toThrow('unforeseen')
  expect(await others).toBeNull()
  expect(pending.size).toBe(0)
})
