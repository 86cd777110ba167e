import { MockActivityEnvironment } from '@temporalio/testing'
import { describe, expect, test } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import { failureOf } from '../test/failure.ts'
import { resumable } from './resumable.ts'
import type { Position } from './resumable.ts'

/** Runs `work` as one attempt; resolves with what was heartbeated last. */
async function attempt(
  work: (position: Position) => Promise<unknown>,
  heartbeatDetails?: Position,
): Promise<{ outcome: Promise<unknown>; last: () => Position; heard: HoldfastError[] }> {
  const environment = new MockActivityEnvironment({ heartbeatDetails })
  const heard: HoldfastError[] = []
  let last: Position | undefined
  environment.on('heartbeat', (details: Position) => (last = structuredClone(details)))
  const outcome = environment.run(() => resumable(work, async (failure) => void heard.push(failure)))
  await outcome.catch(() => undefined)
  return { outcome, last: () => last!, heard }
}

const unreadable = async (position: Position): Promise<never> => {
  position.checkpointBytes = 4096
  throw new HoldfastError('DISK_READ_FAILED', 'EIO')
}

describe('a resumable step', () => {
  test('begins without a position and shows it at once', async () => {
    const { last } = await attempt(async () => undefined)
    expect(last()).toMatchObject({ v: 1, processedBytes: 0, stall: null })
  })

  test('counts its failures across attempts, in heartbeats', async () => {
    let details: Position | undefined
    for (let times = 1; times <= 5; times++) {
      const { outcome, last, heard } = await attempt(unreadable, details)
      expect((await failureOf(outcome)).retryable).toBe(true)
      expect(heard).toEqual([])
      details = last()
      expect(details.stall).toEqual({ code: 'DISK_READ_FAILED', atBytes: 4096, times })
    }
    const { outcome, heard } = await attempt(unreadable, details)
    expect((await failureOf(outcome)).retryable).toBe(false)
    expect(heard.map((failure) => failure.code)).toEqual(['DISK_READ_FAILED'])
  })
})
