import { expect, it } from 'vitest'
import { RateLimit } from './rate-limit.ts'
import { RateMeter } from './rate-meter.ts'

const never = new AbortController().signal

it('lets bytes pass at the rate, however many wait at once', async () => {
  const limit = new RateLimit(1_000_000)
  const startedMs = performance.now()
  await Promise.all(Array.from({ length: 20 }, () => limit.take(20_000, never)))
  const elapsedMs = performance.now() - startedMs
  expect(elapsedMs).toBeGreaterThan(380)
  expect(elapsedMs).toBeLessThan(2_000)
})

it('never waits without a limit', async () => {
  const limit = new RateLimit(null)
  const startedMs = performance.now()
  for (let count = 0; count < 1_000; count++) await limit.take(1e9, never)
  expect(performance.now() - startedMs).toBeLessThan(1_000)
})

it('ends waiting with the reason of an abort, and serves those who come later', async () => {
  const limit = new RateLimit(1_000)
  const controller = new AbortController()
  const reason = new Error('stop')
  const waiting = limit.take(60_000, controller.signal)
  controller.abort(reason)
  await expect(waiting).rejects.toBe(reason)
  await expect(limit.take(1, AbortSignal.abort(reason))).rejects.toBe(reason)
})

it('measures a rate over the last seconds', () => {
  const meter = new RateMeter()
  expect(meter.add(0, 500)).toBe(0)
  expect(meter.add(1_000, 1_500)).toBe(1_000)
  expect(meter.add(4_000, 1_500)).toBe(250)
  expect(meter.add(9_000, 1_500)).toBe(0)
  expect(meter.add(9_500, 2_500)).toBe(2_000)
})
