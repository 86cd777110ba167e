/** Where a mount's callers are answered, and its lease is kept: opened by many, extended, released. */
import { CancellationScope, condition, setHandler, workflowInfo } from '@temporalio/workflow'
import { leaseEnd } from '../domain/restore-mount.ts'
import type { Lease, MountState } from '../domain/restore-mount.ts'
import { controlSteps } from './activity-options.ts'
import { asApplicationFailure } from './failure.ts'
import type { FailureReport } from './failure.ts'
import { extendUpdate, leaseQuery, openUpdate, releaseUpdate } from './restore-mount-updates.ts'
import type { MountEnd, MountLease } from './restore-mount-updates.ts'

export interface DeskTerms extends Lease {
  mountId: string
  /** The last access or extension known, in milliseconds since 1970. */
  lastUsedAt: number
}

/** A caller who is refused may try again at once and expects nothing in his way; a host that is away must not keep him from his answer. */
const TIDY_FIRST_MS = 5_000

export class MountDesk {
  readonly #terms: DeskTerms
  #state: MountState | 'gone' = 'mounting'
  #refusal: FailureReport | undefined
  #released = false

  constructor(terms: DeskTerms) {
    this.#terms = { ...terms }
    const refuseWhileEnding = (code: 'MOUNT_NOT_READY' | 'MOUNT_NOT_FOUND') => (): void => {
      if (this.#isEnding) throw asApplicationFailure(ending(terms.mountId, code))
    }
    setHandler(openUpdate, () => this.#open(), {
      validator: refuseWhileEnding('MOUNT_NOT_READY'),
      description: 'Answers when the disk is mounted; begins the idle time anew when it is already',
    })
    setHandler(extendUpdate, () => this.#renew(), {
      validator: refuseWhileEnding('MOUNT_NOT_FOUND'),
      description: 'Begins the idle time anew',
    })
    setHandler(releaseUpdate, () => this.#release(), { description: 'Unmounts; answers when nothing is left' })
    setHandler(leaseQuery, () => this.#lease(), { description: 'When the mount ends if nobody uses it' })
  }

  /** When the mount ends if nobody uses it, RFC 3339. */
  get expiresAt(): string {
    return timeOf(leaseEnd(this.#terms, this.#terms.lastUsedAt))
  }

  get lastUsedAt(): number {
    return this.#terms.lastUsedAt
  }

  get isReleased(): boolean {
    return this.#released
  }

  /** The disk is mounted: whoever waits is told so. */
  opened(): void {
    this.#state = 'mounted'
  }

  /** It is being unmounted. `refusal`: what those are told who wait for it to open. */
  closing(refusal?: FailureReport): void {
    if (this.#state === 'mounting') this.#refusal = refusal
    this.#state = 'unmounting'
  }

  /** Nothing is left: whoever released it is told so. */
  closed(): void {
    this.#state = 'gone'
  }

  /** Runs `work`; when somebody releases the mount meanwhile it is cancelled, and `CANCELLED` thrown after it has ended. */
  async unlessReleased<T>(work: () => Promise<T>): Promise<T> {
    const scope = new CancellationScope()
    const working = scope.run(work)
    const released = condition(() => this.#released).then(() => scope.cancel())
    // Both are asked for what they came to below; here only the first end counts.
    await Promise.race([working, released]).catch(() => undefined)
    const result = await working.catch((error: unknown) => {
      throw this.#released ? releasedTooEarly() : error
    })
    if (this.#released) throw releasedTooEarly()
    return result
  }

  /**
   * Waits for the end of the lease. `false`: the history has grown long (people extend mounts) and the lease goes on in a new run. Accesses are
   * read when the lease would end, so that they cost nothing meanwhile.
   */
  async leaseIsOver(): Promise<boolean> {
    const isLong = (): boolean => workflowInfo().continueAsNewSuggested
    for (;;) {
      const leftMs = leaseEnd(this.#terms, this.#terms.lastUsedAt) - Date.now()
      if (leftMs > 0) await condition(() => this.#released || isLong(), leftMs)
      if (this.#released) return true
      if (isLong()) return false
      if (leftMs <= 0 && !(await this.#wasUsed())) return true
    }
  }

  /** Whether somebody used the mount since the last look, as far as that makes it last longer. */
  async #wasUsed(): Promise<boolean> {
    const { mountId, startedAt, maximumMs, lastUsedAt } = this.#terms
    if (Date.now() >= startedAt + maximumMs) return false
    this.#terms.lastUsedAt = Math.max(lastUsedAt, await controlSteps().readMountAccess(mountId))
    return leaseEnd(this.#terms, this.#terms.lastUsedAt) > Date.now()
  }

  async #open(): Promise<MountEnd> {
    const wasOpen = this.#state === 'mounted'
    // A cancelled workflow still answers properly.
    await CancellationScope.nonCancellable(() => condition(() => this.#state !== 'mounting'))
    if (this.#refusal) {
      await CancellationScope.nonCancellable(() => condition(() => this.#state === 'gone', TIDY_FIRST_MS))
      throw asApplicationFailure(this.#refusal)
    }
    return wasOpen ? this.#renew() : { expiresAt: this.expiresAt }
  }

  async #renew(): Promise<MountEnd> {
    const { mountId } = this.#terms
    const at = Date.now()
    this.#terms.lastUsedAt = at
    await controlSteps().noteMountAccess({ mountId, at })
    return { expiresAt: this.expiresAt }
  }

  async #release(): Promise<void> {
    this.#released = true
    await CancellationScope.nonCancellable(() => condition(() => this.#state === 'gone'))
  }

  #lease(): MountLease {
    const { startedAt, lastUsedAt } = this.#terms
    const state = this.#state === 'gone' ? 'unmounting' : this.#state
    return { state, expiresAt: this.expiresAt, startedAt: timeOf(startedAt), lastUsedAt: timeOf(lastUsedAt) }
  }

  get #isEnding(): boolean {
    return this.#released || this.#state === 'unmounting' || this.#state === 'gone'
  }
}

function releasedTooEarly(): Error {
  return asApplicationFailure({ code: 'CANCELLED', message: 'The mount was released while it was being opened.', details: {} })
}

function timeOf(milliseconds: number): string {
  return new Date(milliseconds).toISOString()
}

function ending(mountId: string, code: 'MOUNT_NOT_READY' | 'MOUNT_NOT_FOUND'): FailureReport {
  const details = { mount_id: mountId }
  return { code, message: 'The disk is just being unmounted: mount it again when that has ended.', details }
}
