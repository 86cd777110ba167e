import type { RangeClaims } from './range-claims.ts'
import { onTarget, type RestoreFiles } from './restore-files.ts'
import { writeRestoreJournal, type FileIdentity, type RestoreIdentity } from './restore-journal.ts'
import { requireOwnership } from './restore-publication.ts'

export interface RestoreCheckpointsOptions {
  files: RestoreFiles
  identity: RestoreIdentity
  file: FileIdentity
  claims: RangeClaims
  startBytes: number
  /** Makes everything durable that was written before the call. */
  sync: () => Promise<void>
  checkpointIntervalMs: number
  checkpointIntervalBytes: number
}

/** Moves the journal forward while the threads go on. The order makes it true: see how far all are, make that durable, then write it down. */
export class RestoreCheckpoints {
  readonly #options: RestoreCheckpointsOptions
  #durableBytes: number
  #atMs = performance.now()
  #running: Promise<void> | null = null
  #failure: { error: unknown } | null = null

  constructor(options: RestoreCheckpointsOptions) {
    this.#options = options
    this.#durableBytes = options.startBytes
  }

  /** Everything below is durable and in the journal. */
  get durableBytes(): number {
    return this.#durableBytes
  }

  /** Starts a checkpoint when one is due and none is running. */
  consider(onFailure: (error: unknown) => void): void {
    if (this.#running !== null || this.#failure !== null) return
    const { checkpointIntervalMs, checkpointIntervalBytes, claims } = this.#options
    const gainedBytes = claims.reachedBytes() - this.#durableBytes
    const isDue = gainedBytes >= checkpointIntervalBytes || performance.now() - this.#atMs >= checkpointIntervalMs
    if (!isDue || gainedBytes === 0) return
    this.#running = this.#checkpoint().finally(() => (this.#running = null))
    this.#running.catch(onFailure)
  }

  /** Waits for a running checkpoint and makes the last one. Once one has failed it throws that failure, and claims nothing more. */
  async finish(): Promise<void> {
    await this.#running
    await this.#checkpoint()
  }

  /** Linux reports a failed write-back to one `fsync` only: the next succeeds although the data is lost. So the first failure is final. */
  async #checkpoint(): Promise<void> {
    if (this.#failure) throw this.#failure.error
    try {
      await this.#claim()
    } catch (error) {
      this.#failure = { error }
      throw error
    }
  }

  async #claim(): Promise<void> {
    const { files, identity, file, claims, sync } = this.#options
    const reachedBytes = claims.reachedBytes()
    await sync()
    const journal = await requireOwnership(files, identity.restoreId, file)
    await onTarget(files.journal, () => writeRestoreJournal(files.journal, { ...journal, reachedBytes }))
    this.#durableBytes = reachedBytes
    this.#atMs = performance.now()
  }
}
