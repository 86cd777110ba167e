/** When mounts were last used, gathered here and written to the catalog now and then: never one update per click. */
import type { Logger } from '../runtime/logger.ts'

export interface AccessNote {
  mountId: string
  at: Date
}

export interface AccessNotesOptions {
  /** Writes the last access of each mount. May fail: what it was given is kept, and comes again in the next round. */
  write: (notes: readonly AccessNote[]) => Promise<void>
  now: () => Date
  logger: Logger
  /** Default 5 s. */
  everyMs?: number
}

export class AccessNotes {
  readonly #options: AccessNotesOptions
  readonly #timer: NodeJS.Timeout
  #notes = new Map<string, Date>()
  #writing: Promise<void> = Promise.resolve()

  constructor(options: AccessNotesOptions) {
    this.#options = options
    this.#timer = setInterval(() => void this.flush(), options.everyMs ?? 5_000)
    this.#timer.unref()
  }

  note(mountId: string): void {
    this.#notes.set(mountId, this.#options.now())
  }

  /** Writes what was noted so far. Never rejects. */
  flush(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#write())
    return this.#writing
  }

  /** Writes for the last time. */
  close(): Promise<void> {
    clearInterval(this.#timer)
    return this.flush()
  }

  async #write(): Promise<void> {
    if (this.#notes.size === 0) return
    const taken = this.#notes
    this.#notes = new Map()
    try {
      await this.#options.write(Array.from(taken, ([mountId, at]) => ({ mountId, at })))
    } catch (error) {
      this.#options.logger.warn(
        { err: error, mounts: taken.size },
        'accesses of mounts could not be noted; they are noted in the next round',
      )
      // What was noted since is newer.
      this.#notes = new Map([...taken, ...this.#notes])
    }
  }
}
