/** One worker per repository: its slots are the repository's limit of parallel transfers. */
import type { WorkerOptions } from '@temporalio/worker'
import { transferQueue } from '../temporal/task-queues.ts'
import { runWorker } from './running-worker.ts'
import type { RunningWorker } from './running-worker.ts'

export class TransferWorkers {
  readonly #hostId: string
  readonly #options: Omit<WorkerOptions, 'taskQueue'>
  readonly #onFailure: (error: unknown) => void
  readonly #run: typeof runWorker
  readonly #workers = new Map<string, Promise<RunningWorker>>()

  /** `run`: for tests. */
  constructor(
    hostId: string,
    options: Omit<WorkerOptions, 'taskQueue'>,
    onFailure: (error: unknown) => void,
    run: typeof runWorker = runWorker,
  ) {
    this.#hostId = hostId
    this.#options = options
    this.#onFailure = onFailure
    this.#run = run
  }

  /** Begins to take this repository's transfers. Idempotent; a start that failed is tried again by the next call. */
  async attach(repositoryId: string): Promise<void> {
    const known = this.#workers.get(repositoryId)
    const starting =
      known ?? this.#run({ ...this.#options, taskQueue: transferQueue(this.#hostId, repositoryId) }, this.#onFailure)
    this.#workers.set(repositoryId, starting)
    try {
      await starting
    } catch (error) {
      this.#workers.delete(repositoryId)
      throw error
    }
  }

  /** Takes no more transfers for a repository that is gone. Idempotent. */
  async detach(repositoryId: string): Promise<void> {
    const known = this.#workers.get(repositoryId)
    const worker = await known?.catch(() => undefined)
    await worker?.stop()
    // Until then whoever stops all waits for it, too.
    if (this.#workers.get(repositoryId) === known) this.#workers.delete(repositoryId)
  }

  /** Stops all at once: each transfer writes its checkpoint. */
  async stop(): Promise<void> {
    const workers = await Promise.allSettled(this.#workers.values())
    await Promise.all(workers.flatMap((worker) => (worker.status === 'fulfilled' ? [worker.value.stop()] : [])))
  }
}
