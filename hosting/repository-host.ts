/** All repositories of one mover: which of them need a process of their own, and the shares that some of them lie on. */
import { join } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import { placeOf, repositoryAt, type Place } from '../repositories/registry.ts'
import { settlesWithin, usualDeadlines, type Deadlines } from './deadlines.ts'
import { GuardedRepository } from './guarded-repository.ts'
import { mayHang } from './hanging-file-systems.ts'
import type { HostedRepository, MountState, RepositoryHost } from './hosted-repository.ts'
import { localDisks, localTargets } from './local-disks.ts'
import { RestoreTargets } from './restore-targets.ts'
import type { ShareDesk } from './share-desk.ts'
import { repositoryRunBy, runVerb } from './verbs.ts'
import type { Input, LongVerb, Output, VerbRunner, Watching } from './verbs.ts'

export interface RepositoryHostOptions {
  desk: ShareDesk
  /** The desk's: a share's repository lies in its folder of the repository's id. */
  mountsFolder: string
  log: (level: 'info' | 'warn', message: string) => void
  deadlines?: Deadlines
}

/** What is known of one repository. */
interface Hosted {
  place: Place
  guarded: GuardedRepository
}

/** Of processes that were killed, at the end. */
const FAREWELL_MS = 500

export class LocalRepositoryHost implements RepositoryHost {
  readonly #options: Required<RepositoryHostOptions>
  readonly #hosted = new Map<string, Hosted>()
  readonly targets: RestoreTargets
  #isClosed = false

  constructor(options: RepositoryHostOptions) {
    this.#options = { deadlines: usualDeadlines, ...options }
    this.targets = new RestoreTargets(this.#options)
  }

  open(record: RepositoryRecord): HostedRepository {
    const hosted = this.#hostedOf(record)
    const root = this.#rootOf(record, hosted.place)
    return repositoryRunBy(record, root, this.#runnerOf(record, root, hosted))
  }

  /** The process id of who works on it; `null` when nobody has to, or has begun. */
  processOf(repositoryId: string): number | null {
    return this.#hosted.get(repositoryId)?.guarded.pid ?? null
  }

  async mount(record: RepositoryRecord): Promise<MountState> {
    const { place } = this.#hostedOf(record)
    if (place.kind === 'folder') return notAShare
    await this.#options.desk.mount(record.id, place.share)
    return this.#options.desk.state(record.id)
  }

  async unmount(record: RepositoryRecord, { force }: { force: boolean }): Promise<MountState> {
    const { place, guarded } = this.#hostedOf(record)
    if (place.kind === 'folder') return notAShare
    if (guarded.users > 0 && !force) throw inUse(record)
    const lazy = force || guarded.isSilent
    guarded.end(new HoldfastError('REPO_UNAVAILABLE', `Repository ${record.id} is being unmounted.`))
    await settlesWithin(guarded.gone, FAREWELL_MS)
    await this.#options.desk.release(record.id, { lazy })
    return this.#options.desk.state(record.id)
  }

  async forget(record: RepositoryRecord): Promise<void> {
    const { place, guarded } = this.#hostedOf(record)
    this.#hosted.delete(record.id)
    await this.#retire(record.id, guarded)
    // After what is being mounted for those who were refused meanwhile.
    if (place.kind === 'share') await this.#options.desk.release(record.id, { lazy: true })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.targets.close()
    await Promise.all([...this.#hosted].map(([id, { guarded }]) => this.#retire(id, guarded)))
  }

  async #retire(id: string, guarded: GuardedRepository): Promise<void> {
    guarded.retire(closing(id))
    await settlesWithin(guarded.gone, FAREWELL_MS)
  }

  #hostedOf(record: RepositoryRecord): Hosted {
    if (this.#isClosed) throw closing(record.id)
    const place = placeOf(record)
    const known = this.#hosted.get(record.id)
    if (known && JSON.stringify(known.place) === JSON.stringify(place)) return known
    // It has moved: what was begun in the old place has nothing to do with the new one.
    known?.guarded.retire(closing(record.id))
    const hosted = { place, guarded: this.#guard(record, place) }
    this.#hosted.set(record.id, hosted)
    return hosted
  }

  #guard(record: RepositoryRecord, place: Place): GuardedRepository {
    const { desk, deadlines, log } = this.#options
    const share = place.kind === 'share' ? place.share : null
    const guarded: GuardedRepository = new GuardedRepository({
      repositoryId: record.id,
      root: this.#rootOf(record, place),
      deadlines,
      log,
      prepare: async () => void (share && (await desk.ensure(record.id, share))),
      onGivenUp: () => {
        // Mounted anew by whoever comes next: what this one waited for may never come.
        if (share) this.#takeAway(record.id)
      },
      onLostWrite: () => {
        // What a client has lost it tells once more to who opens the file next, in the middle of what that one writes, unless the share is mounted
        // anew before. Others that still work there would lose it from under them.
        if (share && guarded.users === 1) this.#takeAway(record.id)
      },
    })
    return guarded
  }

  #takeAway(id: string): void {
    this.#options.desk.release(id, { lazy: true }).catch((error: unknown) => {
      this.#options.log('warn', `The share of repository ${id} could not be unmounted: ${String(error)}`)
    })
  }

  #rootOf(record: RepositoryRecord, place: Place): string {
    return place.kind === 'share' ? join(this.#options.mountsFolder, record.id) : repositoryAt(place.path, record).root
  }

  /** Looked at every time: an administrator may mount something there, or take it away. */
  #runnerOf(record: RepositoryRecord, root: string, { place, guarded }: Hosted): VerbRunner {
    const here = { repository: repositoryAt(root, record), disks: localDisks, targets: localTargets }
    const needsProcess = async (): Promise<boolean> => place.kind === 'share' || mayHang(root)
    return {
      storage: () => needsProcess().then((needs) => (needs ? guarded.storage() : here.repository.storage())),
      short: (verb, input) =>
        needsProcess().then((needs) => (needs ? guarded.short(verb, input) : runVerb(here, verb, input, {}))),
      long: <V extends LongVerb>(verb: V, input: Input<V>, watching: Watching<V>) =>
        needsProcess().then((needs) => {
          const there = (worker: GuardedRepository): Promise<Output<V>> => worker.long(verb, input, watching)
          const run = (): Promise<Output<V>> => runVerb(here, verb, input, watching)
          const [request] = input
          if (needs) return there(guarded)
          return 'targetPath' in request ? this.targets.at(request.targetPath, there, run) : run()
        }),
    }
  }
}

const notAShare: MountState = { mounted: false, reason: null }

function inUse({ id }: RepositoryRecord): HoldfastError {
  return new HoldfastError(
    'REPO_IN_USE',
    `Repository ${id} is in use by work of its mover. Wait for it, cancel it, or unmount with force.`,
    {
      details: { repository_id: id },
    },
  )
}

function closing(id: string): HoldfastError {
  return new HoldfastError('REPO_UNAVAILABLE', `The mover no longer works on repository ${id}; the next attempt does.`, {
    details: { repository_id: id },
  })
}
