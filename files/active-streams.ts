/** Long answers under way, by mount: not too many at a time, and their bytes count as use of the mount. */
import { HoldfastError } from '../domain/errors.ts'

/** Each holds a few pieces of up to 2 MiB. */
const STREAMS_PER_MOUNT = 32
/** While bytes flow the mount counts as in use: often enough for any lease, seldom enough to cost nothing. */
const NOTE_EVERY_MS = 5_000

export interface ActiveStreamsOptions {
  noteAccess: (mountId: string) => void
  now: () => Date
  /** Default 32. */
  perMount?: number
}

export class ActiveStreams {
  readonly #options: ActiveStreamsOptions
  readonly #byMount = new Map<string, number>()

  constructor(options: ActiveStreamsOptions) {
    this.#options = options
  }

  /**
   * Runs `work` as one of the mount's streams. It calls `used` whenever bytes flow. `MOUNT_NOT_READY` when there are too many: that passes.
   */
  async run<T>(mountId: string, work: (used: () => void) => Promise<T>): Promise<T> {
    const most = this.#options.perMount ?? STREAMS_PER_MOUNT
    const running = this.#byMount.get(mountId) ?? 0
    if (running >= most) throw tooMany(most)
    this.#byMount.set(mountId, running + 1)
    try {
      return await work(this.#noter(mountId))
    } finally {
      const left = (this.#byMount.get(mountId) ?? 1) - 1
      if (left > 0) this.#byMount.set(mountId, left)
      else this.#byMount.delete(mountId)
    }
  }

  #noter(mountId: string): () => void {
    let notedAt = this.#options.now().getTime()
    return () => {
      const now = this.#options.now().getTime()
      if (now - notedAt < NOTE_EVERY_MS) return
      notedAt = now
      this.#options.noteAccess(mountId)
    }
  }
}

function tooMany(most: number): HoldfastError {
  return new HoldfastError(
    'MOUNT_NOT_READY',
    `${most} downloads, counts and searches of this mount are under way, as many as it serves at a time. Try again when one has ended.`,
    { details: { streams_max: most } },
  )
}
