/**
 * What this process's transfers and restores have done so far, brought into the catalog in one batch every second. Best effort by
 * design: a catalog that is away delays what people see, never a transfer.
 */
import type { Logger } from '../runtime/logger.ts'
import type { Catalog } from '../db/client.ts'
import { recordDiskProgress, recordRestoreProgress } from '../db/queries/disk-progress.ts'
import type { DiskProgress, RestoreProgress } from '../db/queries/disk-progress.ts'

const INTERVAL_MS = 1_000

export class ProgressBoard {
  readonly #catalog: Catalog
  readonly #logger: Logger
  readonly #disks = new Map<string, DiskProgress>()
  readonly #restores = new Map<string, RestoreProgress>()
  readonly #timer: NodeJS.Timeout
  #writing: Promise<void> | undefined
  #catalogIsAway = false

  constructor(catalog: Catalog, logger: Logger) {
    this.#catalog = catalog
    this.#logger = logger
    this.#timer = setInterval(() => void this.#write(), INTERVAL_MS)
  }

  /** Replaces what is known of the disk; written with the next batch. */
  reportDisk(progress: DiskProgress): void {
    this.#disks.set(`${progress.backupId}/${progress.diskIndex}`, progress)
  }

  reportRestore(progress: RestoreProgress): void {
    this.#restores.set(progress.restoreId, progress)
  }

  /** Writes what is left and ends. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#writing
    await this.#write()
  }

  /** Never two batches at once: a slow catalog gets fewer and newer reports, not a queue of old ones. */
  async #write(): Promise<void> {
    if (this.#writing || this.#disks.size + this.#restores.size === 0) return
    this.#writing = this.#writeBatch()
    await this.#writing
    this.#writing = undefined
  }

  async #writeBatch(): Promise<void> {
    const disks = [...this.#disks.values()]
    const restores = [...this.#restores.values()]
    this.#disks.clear()
    this.#restores.clear()
    try {
      await recordDiskProgress(this.#catalog, disks)
      for (const restore of restores) await recordRestoreProgress(this.#catalog, restore)
      if (this.#catalogIsAway) this.#logger.info('progress reaches the catalog again')
      this.#catalogIsAway = false
    } catch (error) {
      // The next report brings newer numbers, so these are not kept. Said once per outage.
      if (!this.#catalogIsAway) this.#logger.warn({ err: error }, 'progress does not reach the catalog; transfers go on')
      this.#catalogIsAway = true
    }
  }
}
