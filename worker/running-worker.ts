/** A worker that runs until it is told to stop. */
import { Worker } from '@temporalio/worker'
import type { WorkerOptions } from '@temporalio/worker'

export interface RunningWorker {
  /** Stops polling, lets steps finish or checkpoint, and resolves when none runs any more. Idempotent. */
  stop(): Promise<void>
}

/** After being told to stop: short steps may finish, then all are cancelled, and those that hang are given up. */
const timing = { shutdownGraceTime: '1s', shutdownForceTime: '15s' } as const

/** `onFailure`: the worker cannot go on (its queue or namespace is gone, the runtime broke); never called after {@link RunningWorker.stop}. */
export async function runWorker(options: WorkerOptions, onFailure: (error: unknown) => void): Promise<RunningWorker> {
  const worker = await Worker.create({ ...timing, ...options })
  let stopping = false
  const ended = worker.run().catch((error: unknown) => {
    if (!stopping) onFailure(error)
  })
  return {
    async stop() {
      if (!stopping) worker.shutdown()
      stopping = true
      await ended
    },
  }
}
