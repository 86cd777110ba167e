/** Heartbeats: how Temporal learns that a step is alive, and how a step learns that it was cancelled. */
import { Context } from '@temporalio/activity'

/** From a timer, not from the data: a slow disk is alive too. The SDK sends far fewer than it is given. */
const INTERVAL_MS = 1_000

/**
 * Runs `work` while heartbeating, the first time at once so that a slow beginning is not taken for a dead mover. `details` is asked
 * every time and comes back as `heartbeatDetails` of the next attempt: it must describe only what is durable. Small: under 2 KB.
 */
export async function heartbeating<T>(work: () => Promise<T>, details?: () => unknown): Promise<T> {
  const context = Context.current()
  const beat = (): void => (details ? context.heartbeat(details()) : context.heartbeat())
  beat()
  const timer = setInterval(beat, INTERVAL_MS)
  try {
    return await work()
  } finally {
    clearInterval(timer)
    // The last position rides on a failure's report; after a success nobody asks.
    beat()
  }
}
