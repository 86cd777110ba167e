import { CancelledFailure, Context } from '@temporalio/activity'
import { ApplicationFailure } from '@temporalio/common'
import { MockActivityEnvironment } from '@temporalio/testing'
import { describe, expect, test } from 'vitest'
import { HoldfastError, errorKinds } from '../domain/errors.ts'
import type { ErrorCode } from '../domain/errors.ts'
import { guarded, guardedResumable } from './failure.ts'

async function thrownBy(step: () => Promise<unknown>, environment = new MockActivityEnvironment()): Promise<unknown> {
  return environment.run(guarded({ step }).step).then(
    () => expect.unreachable('should have failed'),
    (error: unknown) => error,
  )
}

/** Settles when the running step is asked to stop. */
function untilCancelled(): Promise<never> {
  return Context.current().cancelled
}

describe('every error of ours', () => {
  test.each(Object.keys(errorKinds) as ErrorCode[])('%s keeps its code, details and whether to try again', async (code) => {
    const failure = await thrownBy(() => Promise.reject(new HoldfastError(code, 'what happened', { details: { size: 1 } })))
    expect(failure).toBeInstanceOf(ApplicationFailure)
    expect(failure).toMatchObject({
      type: code,
      message: 'what happened',
      details: [{ size: 1 }],
      nonRetryable: !errorKinds[code].retryable,
    })
  })

  test('an error that outlived its retries is final', async () => {
    const error = new HoldfastError('DISK_READ_FAILED', 'EIO', { retryable: false })
    expect(await thrownBy(() => Promise.reject(error))).toMatchObject({ nonRetryable: true })
  })

  test('a cause does not travel: it may say too much', async () => {
    const cause = new Error('mysql://user:s3cret@host')
    const failure = await thrownBy(() => Promise.reject(new HoldfastError('CATALOG_UNAVAILABLE', 'away', { cause })))
    expect(failure).not.toHaveProperty('cause.message')
    expect(JSON.stringify(failure)).not.toContain('s3cret')
  })
})

test('a bug is INTERNAL and not tried again', async () => {
  const failure = await thrownBy(() => Promise.reject(new TypeError('undefined is not a function')))
  expect(failure).toMatchObject({ type: 'INTERNAL', nonRetryable: true, message: 'undefined is not a function' })
})

describe('a step that is stopped', () => {
  test('by cancellation is reported as cancelled, whatever it threw', async () => {
    const environment = new MockActivityEnvironment()
    const thrown = thrownBy(async () => {
      await untilCancelled().catch(() => undefined)
      throw new HoldfastError('TOOL_FAILED', 'qemu-nbd ended with signal SIGTERM')
    }, environment)
    environment.cancel('CANCELLED')
    expect(await thrown).toBeInstanceOf(CancelledFailure)
  })

  test('by the shutdown of its worker is given back, soon to be tried again', async () => {
    const environment = new MockActivityEnvironment()
    const thrown = thrownBy(untilCancelled, environment)
    environment.cancel('WORKER_SHUTDOWN')
    expect(await thrown).toMatchObject({ type: 'WorkerShutdown', nonRetryable: false, category: 'BENIGN' })
  })
})

describe('heartbeats', () => {
  test('come at once, and from short steps without a position', async () => {
    const environment = new MockActivityEnvironment()
    const beats: unknown[] = []
    environment.on('heartbeat', (details: unknown) => beats.push(details))
    await environment.run(guarded({ step: async () => 1 }).step)
    expect(beats.length).toBeGreaterThanOrEqual(1)
    expect(beats.every((details) => details === undefined)).toBe(true)
  })

  test('are left to steps that bring a position', async () => {
    const environment = new MockActivityEnvironment()
    const beats: unknown[] = []
    environment.on('heartbeat', (details: unknown) => beats.push(details))
    await environment.run(guardedResumable({ step: async () => 1 }).step)
    expect(beats).toEqual([])
  })
})
