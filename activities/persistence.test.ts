import { describe, expect, test } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import type { ErrorCode } from '../domain/errors.ts'
import { PARKED_AFTER, countStall, unlessPersistent } from './persistence.ts'
import type { Stall } from './persistence.ts'

/** Fails with each code at each position in turn; the number of the failure that is final, or `null`. */
function givesUpAt(failures: [code: ErrorCode, atBytes: number][]): number | null {
  let stall: Stall | null = null
  for (const [index, [code, atBytes]] of failures.entries()) {
    const error = new HoldfastError(code, code)
    stall = countStall(stall, error, atBytes)
    if (!unlessPersistent(error, stall).retryable) return index + 1
  }
  return null
}

function times<T>(count: number, value: T): T[] {
  return Array.from({ length: count }, () => value)
}

describe('a resumable step', () => {
  test('gives up after six failures at one place', () => {
    expect(givesUpAt(times(20, ['DISK_READ_FAILED', 100]))).toBe(6)
  })

  test('goes on as long as it gets further', () => {
    expect(givesUpAt(times(50, 0).map((_, index) => ['DISK_READ_FAILED', index * 10]))).toBeNull()
  })

  test('counts anew after progress', () => {
    expect(
      givesUpAt([...times(5, ['NBD_TIMEOUT', 0] as [ErrorCode, number]), ...times(6, ['NBD_TIMEOUT', 1] as [ErrorCode, number])]),
    ).toBe(11)
  })

  test('counts different failures at one place together', () => {
    expect(
      givesUpAt([
        ...times(3, ['NBD_TIMEOUT', 5] as [ErrorCode, number]),
        ...times(3, ['DISK_READ_FAILED', 5] as [ErrorCode, number]),
      ]),
    ).toBe(6)
  })

  test('waits longer for a share, and for ever for the catalog', () => {
    expect(givesUpAt(times(30, ['REPO_UNAVAILABLE', 0]))).toBe(20)
    expect(givesUpAt(times(500, ['CATALOG_UNAVAILABLE', 0]))).toBeNull()
  })

  test('gives up at once when the error is lasting, in its own words', () => {
    const error = new HoldfastError('CORRUPT_CHAIN', 'broken')
    expect(unlessPersistent(error, countStall(null, error, 0))).toBe(error)
  })

  test('that copies a disk soon leaves the wait for a share to its workflow', () => {
    const error = new HoldfastError('REPO_UNAVAILABLE', 'The share does not answer.')
    const met = (times: number) => unlessPersistent(error, { code: error.code, atBytes: 0, times }, PARKED_AFTER)
    expect(met(2).retryable).toBe(true)
    expect(met(3)).toMatchObject({ code: 'REPO_UNAVAILABLE', retryable: false, message: 'The share does not answer.' })
    const other = new HoldfastError('DISK_READ_FAILED', 'EIO')
    expect(unlessPersistent(other, { code: other.code, atBytes: 0, times: 3 }, PARKED_AFTER).retryable).toBe(true)
  })

  test('says how often it tried', () => {
    const error = new HoldfastError('DISK_READ_FAILED', 'EIO at 5.', { details: { offset: 5 } })
    const failure = unlessPersistent(error, { code: error.code, atBytes: 0, times: 6 })
    expect(failure).toMatchObject({
      code: 'DISK_READ_FAILED',
      retryable: false,
      details: { offset: 5, attempts_without_progress: 6 },
    })
    expect(failure.message).toContain('EIO at 5. Given up after 6 attempts')
  })
})
