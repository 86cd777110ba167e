import {
  ActivityFailure,
  ApplicationFailure,
  CancelledFailure,
  ChildWorkflowFailure,
  RetryState,
  TimeoutFailure,
  TimeoutType,
} from '@temporalio/common'
import { describe, expect, test } from 'vitest'
import { asApplicationFailure, endingWithCode, failureOf, isCancelled } from './failure.ts'

/** As a step's failure reaches `backupVm`: through the child's activity and the child. */
function throughChild(cause: Error): Error {
  const activity = new ActivityFailure(
    'Activity task failed',
    'transferDisk',
    '1',
    RetryState.NON_RETRYABLE_FAILURE,
    'worker',
    cause,
  )
  const execution = { workflowId: 'child', runId: 'run' }
  return new ChildWorkflowFailure('default', execution, 'backupDisk', RetryState.NON_RETRYABLE_FAILURE, activity)
}

describe('the report of a failure', () => {
  test('is that of the step, under any number of wrappers', () => {
    const report = { code: 'INSUFFICIENT_STORAGE', message: 'full', details: { required_bytes: 9 } } as const
    expect(failureOf(throughChild(asApplicationFailure(report)))).toEqual(report)
  })

  test('tells a host without a mover from one that fell silent', () => {
    const silent = (type: TimeoutType) => failureOf(throughChild(new TimeoutFailure('timeout', undefined, type)))
    expect(silent(TimeoutType.SCHEDULE_TO_START)).toMatchObject({ code: 'MOVER_UNAVAILABLE' })
    expect(silent(TimeoutType.SCHEDULE_TO_START).message).toContain('No mover took the work')
    expect(silent(TimeoutType.HEARTBEAT).message).toContain('stopped answering')
  })

  test('is INTERNAL for what is not ours', () => {
    expect(failureOf(ApplicationFailure.create({ type: 'TypeError', message: 'x' }))).toMatchObject({
      code: 'INTERNAL',
      message: 'x',
    })
    expect(failureOf('odd')).toMatchObject({ code: 'INTERNAL', message: 'odd' })
  })
})

describe('a workflow that ends', () => {
  test('by cancellation stays cancelled', async () => {
    const cancelled = throughChild(new CancelledFailure('cancelled'))
    expect(isCancelled(cancelled)).toBe(true)
    await expect(endingWithCode(() => Promise.reject(cancelled))).rejects.toBe(cancelled)
  })

  test('by failure carries the code itself', async () => {
    const failure = throughChild(asApplicationFailure({ code: 'SOURCE_NOT_FOUND', message: 'gone', details: {} }))
    await expect(endingWithCode(() => Promise.reject(failure))).rejects.toMatchObject({
      type: 'SOURCE_NOT_FOUND',
      nonRetryable: true,
    })
  })
})
