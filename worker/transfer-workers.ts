/** One worker per repository: its slots are the repository's limit of parallel transfers. */
import type { WorkerOptions } from '@temporalio/worker'
import { transferQueue } from '../temporal/task-queues.ts'
import { runWorker } from './running-worker.ts'
import type { RunningWorker } from './running-worker.ts'

export class TransferWorkers {
  readonly #hostId: string
  readonly #options: Omit<WorkerOptions, 'taskQueue'>
  readonly #onFailure: (error: unknown) => void
  readonly #workers = new Map<string, Promise<RunningWorker>>()

  constructor(hostId: string, options: Omit<WorkerOptions, 'taskQueue'>, onFailure: (error: unknown) => void) {
    this.#hostId = hostId
    this.#options = options
    this.#onFailure = onFailure
  }

  /** Begins to take this repository's transfers. Idempotent; a start that failed is tried again by the next call. */
  async attach(repositoryId: string): Promise<void> {
    const known = this.#workers.get(repositoryId)
    const starting =
      known ?? runWorker({ ...this.#options, taskQueue: transferQueue(this.#hostId, repositoryId) }, this.#onFailure)
    this.#workers.set(repositoryId, starting)
    try {
      await starting
    } catch (error) {
      this.#workers.delete(repositoryId)
      throw error
    }
  }

  /** Stops all at once: each transfer writes its checkpoint. */
  async stop(): Promise<void> {
    const workers = await Promise.allSettled(this.#workers.values())
    await Promise.all(workers.flatMap((worker) => (worker.status === 'fulfilled' ? [worker.value.stop()] : [])))
  }
}
