/** Waiting for a server that is not there yet. */
import type { Logger } from './logger.ts'

const RETRY_MS = 1_000

/** Repeats `reach` every second. Says so once, not every time. Rejects with the signal's reason when stopped meanwhile. */
export async function untilReachable<T>(logger: Logger, signal: AbortSignal, what: string, reach: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted()
    try {
      return await reach()
    } catch (error) {
      if (attempt === 1) logger.warn({ err: error }, `${what} does not answer yet; waiting for it`)
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
  }
}
