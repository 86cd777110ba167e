import { describe, expect, it } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import { createLoginThrottle, FREE_ATTEMPTS, nextAttemptAtMs, waitAfterMs } from './login-throttle.ts'
import type { LoginThrottle } from './login-throttle.ts'

describe('the rule', () => {
  it('is free at first, then doubles up to a quarter of an hour', () => {
    expect(Array.from({ length: FREE_ATTEMPTS }, (_, count) => waitAfterMs(count))).toEqual(Array<number>(FREE_ATTEMPTS).fill(0))
    expect([5, 6, 7, 8].map(waitAfterMs)).toEqual([1_000, 2_000, 4_000, 8_000])
    expect([15, 100, 5_000].map(waitAfterMs)).toEqual([900_000, 900_000, 900_000])
  })

  it('counts the wait from the last attempt', () => {
    expect(nextAttemptAtMs(undefined)).toBe(0)
    expect(nextAttemptAtMs({ count: 6, lastAtMs: 10_000 })).toBe(12_000)
  })
})

function refusal(work: () => void): HoldfastError | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    if (error instanceof HoldfastError) return error
    throw error
  }
}

function setUp(): { throttle: LoginThrottle; pass: (ms: number) => void } {
  let now = 1_000_000
  const throttle = createLoginThrottle(() => now)
  return { throttle, pass: (ms) => (now += ms) }
}

function fail(throttle: LoginThrottle, times: number): void {
  for (let time = 0; time < times; time++) throttle.admit('ada', '10.0.0.1')
}

describe('the throttle', () => {
  it('refuses the sixth guess and says when to try again', () => {
    const { throttle, pass } = setUp()
    fail(throttle, FREE_ATTEMPTS)
    const error = refusal(() => throttle.admit('ada', '10.0.0.1'))
    expect(error).toMatchObject({ code: 'LOGIN_THROTTLED', details: { retry_after_seconds: 1 } })
    expect(error?.message).toContain('1 s')
    pass(1_000)
    throttle.admit('ada', '10.0.0.1')
    expect(refusal(() => throttle.admit('ada', '10.0.0.1'))?.details).toEqual({ retry_after_seconds: 2 })
  })

  it('does not punish a refused attempt', () => {
    const { throttle, pass } = setUp()
    fail(throttle, FREE_ATTEMPTS)
    for (let time = 0; time < 100; time++) refusal(() => throttle.admit('ada', '10.0.0.1'))
    pass(1_000)
    expect(refusal(() => throttle.admit('ada', '10.0.0.1'))).toBeUndefined()
  })

  it('counts each user and address apart', () => {
    const { throttle } = setUp()
    fail(throttle, FREE_ATTEMPTS)
    for (const [user, address] of [
      ['ada', '10.0.0.2'],
      ['bob', '10.0.0.1'],
      ['ada","10.0.0.1', ''],
    ] as const) {
      expect(refusal(() => throttle.admit(user, address))).toBeUndefined()
    }
  })

  it('forgives after a success, and after an hour', () => {
    const { throttle, pass } = setUp()
    fail(throttle, FREE_ATTEMPTS)
    throttle.succeeded('ada', '10.0.0.1')
    fail(throttle, FREE_ATTEMPTS)
    pass(3_600_000)
    fail(throttle, FREE_ATTEMPTS)
    expect(refusal(() => throttle.admit('ada', '10.0.0.1'))).toBeDefined()
  })

  it('remembers a bounded number, the stalest first to go', () => {
    const { throttle } = setUp()
    fail(throttle, FREE_ATTEMPTS)
    for (let user = 0; user < 9_999; user++) throttle.admit(`user-${user}`, '10.0.0.9')
    expect(refusal(() => throttle.admit('user-9998', '10.0.0.9'))).toBeUndefined()
    expect(refusal(() => throttle.admit('ada', '10.0.0.1'))).toBeUndefined()
  })
})
