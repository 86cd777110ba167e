import type { BlockHashesWriter } from './block-hashes-writer.ts'
import type { Checkpoint, Journal } from './journal.ts'
import type { TransferTarget } from './transfer-target.ts'
import type { Watermark } from './watermark.ts'

export interface CheckpointsOptions {
  target: Pick<TransferTarget, 'flush'>
  hashes: Pick<BlockHashesWriter, 'sync'>
  journal: Pick<Journal, 'append'>
  watermark: Watermark
  start: Checkpoint
  checkpointIntervalMs: number
  checkpointIntervalBytes: number
}

/**
 * Moves the journal forward while the lanes go on. The order makes a journal line true: take the watermark (everything below is
 * acknowledged), flush the image, sync the digests, then append.
 *
 * After a failure there is no other checkpoint: the system tells of lost writes once, so the next flush would succeed and its line lie.
 */
export class Checkpoints {
  readonly #options: CheckpointsOptions
  #durable: Checkpoint
  #atMs = performance.now()
  #running: Promise<void> | null = null

  constructor(options: CheckpointsOptions) {
    this.#options = options
    this.#durable = options.start
  }

  /** The newest checkpoint in the journal, or where the transfer started. */
  get durable(): Checkpoint {
    return this.#durable
  }

  /** Starts a checkpoint when one is due, none is running and none has failed. */
  consider(onFailure: (error: unknown) => void): void {
    if (this.#running !== null) return
    const { checkpointIntervalMs, checkpointIntervalBytes, watermark } = this.#options
    const gainedBytes = watermark.reached.positionBytes - this.#durable.positionBytes
    const isDue = gainedBytes >= checkpointIntervalBytes || performance.now() - this.#atMs >= checkpointIntervalMs
    if (!isDue || gainedBytes === 0) return
    this.#begin().catch(onFailure)
  }

  /** Waits for a running checkpoint and makes the last one. Throws the first failure of any. */
  async finish(): Promise<void> {
    await this.#running
    await this.#begin()
  }

  /** One that failed stays in its place, so that none follows. */
  #begin(): Promise<void> {
    this.#running = this.#checkpoint()
    return this.#running
  }

  async #checkpoint(): Promise<void> {
    const { target, hashes, journal, watermark } = this.#options
    const reached = watermark.reached
    await target.flush()
    await hashes.sync()
    await journal.append(reached)
    this.#durable = reached
    this.#atMs = performance.now()
    this.#running = null
  }
}
