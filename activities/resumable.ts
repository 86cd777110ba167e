/** Running a long step so that its next attempt goes on, and so that a hopeless one ends. */
import { activityInfo, cancellationSignal } from '@temporalio/activity'
import { HoldfastError } from '../domain/errors.ts'
import { heartbeating } from './heartbeat.ts'
import { countStall, unlessPersistent } from './persistence.ts'
import type { Stall } from './persistence.ts'

/**
 * What a long step heartbeats: shown in the Web UI, and given to the next attempt. Where to go on is not read from here but from the
 * journal beside the data, which is written in step with it.
 */
export interface Position {
  v: 1
  processedBytes: number
  totalBytes: number
  /** Durable up to here. */
  checkpointBytes: number
  ratePerSecond: number
  stall: Stall | null
}

/** Runs `work`, which keeps `position` current. `onGivingUp` hears of the failure that ends the step for good; for `parkedAfter` see {@link unlessPersistent}. */
export async function resumable<T>(
  work: (position: Position) => Promise<T>,
  onGivingUp: (failure: HoldfastError) => Promise<void> = async () => {},
  parkedAfter: Parameters<typeof unlessPersistent>[2] = {},
): Promise<T> {
  const position = startingPosition()
  const signal = cancellationSignal()
  const attempt = async (): Promise<T> => {
    try {
      return await work(position)
    } catch (error) {
      if (!(error instanceof HoldfastError) || signal.aborted) throw error
      // The count goes into the last heartbeat, which rides on the report of this failure.
      position.stall = countStall(position.stall, error, position.checkpointBytes)
      const failure = unlessPersistent(error, position.stall, parkedAfter)
      if (!failure.retryable) await onGivingUp(failure)
      throw failure
    }
  }
  return heartbeating(attempt, () => position)
}

function startingPosition(): Position {
  const earlier: Position | undefined = activityInfo().heartbeatDetails
  return earlier ?? { v: 1, processedBytes: 0, totalBytes: 0, checkpointBytes: 0, ratePerSecond: 0, stall: null }
}
