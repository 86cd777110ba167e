/**
 * Runs a repository's verbs in its process, and answers in time whatever that does.
 *
 * Whether the storage answers is decided by one question, `storage`: work that takes long is only suspected, and the question clears it. While that is
 * open beyond its time, everything else is refused at once: nothing piles up. A process that does not come back is killed, and the next one begins when
 * the kernel has let go of it (`process/sole-owner.ts`).
 */
import { HoldfastError } from '../domain/errors.ts'
import type { StorageInfo } from '../domain/storage.ts'
import { settlesWithin, type Deadlines } from './deadlines.ts'
import { RepositoryProcess } from './repository-process.ts'
import { Silence } from './silence.ts'
import type { Input, LongVerb, Output, ShortVerb, VerbRunner, Watching } from './verbs.ts'

export interface GuardedOptions {
  repositoryId: string
  /** What people read; by default the repository with its id. */
  name?: string
  root: string
  deadlines: Deadlines
  /** Before each use: mounts what must be mounted. Within its own limits. */
  prepare: () => Promise<void>
  /** For administrators. */
  log: (level: 'info' | 'warn', message: string) => void
  /** The storage is given up for now, and its process killed. */
  onGivenUp: () => void
  /** A transfer could not write what it should. Its process goes on. */
  onLostWrite?: () => void
}

/** A process with what is known of its storage. */
interface Worker {
  process: RepositoryProcess
  silence: Silence
  /** Callers have been refused, and the process still does it. */
  abandoned: Set<Promise<unknown>>
}

export class GuardedRepository implements VerbRunner {
  readonly #options: GuardedOptions
  #worker: Worker | null = null
  /** Killed, and not gone yet. */
  #leaving: { since: Date; ended: Promise<void> } | null = null
  #users = 0
  #retired: HoldfastError | null = null

  constructor(options: GuardedOptions) {
    this.#options = options
  }

  /** Verbs that run, or wait to. */
  get users(): number {
    return this.#users
  }

  /** Whether it is known not to answer. */
  get isSilent(): boolean {
    return this.#leaving !== null || (this.#worker?.silence.since ?? null) !== null
  }

  /** Of its process; `null` while there is none. */
  get pid(): number | null {
    return this.#worker?.process.pid ?? null
  }

  /** Settles when no process that was ended is left. */
  get gone(): Promise<void> {
    return this.#leaving?.ended ?? Promise.resolve()
  }

  storage(): Promise<StorageInfo> {
    return this.#using((worker) => this.#ask(worker))
  }

  short<V extends ShortVerb>(verb: V, input: Input<V>): Promise<Output<V>> {
    return this.#using((worker) => this.#inItsTime(worker, verb, input))
  }

  long<V extends LongVerb>(verb: V, input: Input<V>, watching: Watching<V>): Promise<Output<V>> {
    return this.#using((worker) => this.#watched(worker, verb, input, watching))
  }

  /** Ends the process without waiting for it: what runs in it gets `reason`. Nothing when there is none. */
  end(reason: HoldfastError): void {
    const worker = this.#worker
    if (!worker) return
    const since = worker.silence.since ?? new Date()
    this.#forget(worker)
    const leaving = { since, ended: worker.process.ended }
    this.#leaving = leaving
    void leaving.ended.then(() => this.#forgetLeaving(leaving.ended))
    worker.process.kill(reason)
  }

  /** Ends the process, and refuses with `reason` whatever is asked from now on, also by those who opened the repository before. */
  retire(reason: HoldfastError): void {
    this.#retired ??= reason
    this.end(reason)
  }

  async #using<T>(run: (worker: Worker) => Promise<T>): Promise<T> {
    this.#users++
    try {
      this.#refuseWhileAway()
      await this.#options.prepare()
      return await run(await this.#readyWorker())
    } finally {
      this.#users--
    }
  }

  #refuseWhileAway(): void {
    if (this.#retired) throw this.#retired
    const since = this.#worker?.silence.since
    if (since) throw this.#silent(since)
  }

  async #readyWorker(): Promise<Worker> {
    const { patienceMs } = this.#options.deadlines
    const leaving = this.#leaving
    if (leaving && !(await settlesWithin(leaving.ended, patienceMs))) throw this.#silent(leaving.since)
    this.#refuseWhileAway()
    const worker = (this.#worker ??= this.#start())
    const earlier = Promise.allSettled(worker.abandoned)
    if (worker.abandoned.size > 0 && !(await settlesWithin(earlier, patienceMs))) throw this.#silent(new Date())
    return worker
  }

  #start(): Worker {
    const { repositoryId, root, deadlines, log } = this.#options
    const process = new RepositoryProcess(repositoryId, root)
    const silence = new Silence({
      deadlines,
      ask: () => process.call('storage', []),
      onSilent: () => log('warn', `${this.#name} does not answer; nothing else is begun there until it does`),
      onAnswer: () => log('info', `${this.#name} answers again`),
      onGivingUp: (since) => {
        this.end(this.#silent(since))
        this.#options.onGivenUp()
      },
    })
    const worker: Worker = { process, silence, abandoned: new Set() }
    void process.ended.then(() => this.#forget(worker))
    return worker
  }

  #forgetLeaving(ended: Promise<void>): void {
    if (this.#leaving?.ended === ended) this.#leaving = null
  }

  #forget(worker: Worker): void {
    worker.silence.end()
    if (this.#worker === worker) this.#worker = null
  }

  async #ask({ silence }: Worker): Promise<StorageInfo> {
    const answer = await silence.ask().catch((error: unknown) => this.#giveUpIfDead(error))
    if (answer === 'silent') throw this.#silent(silence.since ?? new Date())
    return answer
  }

  /** An answer from a mount that cannot come back to life by itself: whoever comes next gets a new one. */
  #giveUpIfDead(error: unknown): never {
    if (isOfDeadMount(error)) {
      this.end(new HoldfastError('REPO_UNAVAILABLE', error.message, { details: error.details, cause: error }))
      this.#options.onGivenUp()
    }
    throw error
  }

  async #inItsTime<V extends ShortVerb>(worker: Worker, verb: V, input: Input<V>): Promise<Output<V>> {
    const { operationMs, longestMs } = this.#options.deadlines
    const began = new Date()
    const beganAt = performance.now()
    const answer = worker.process.call(verb, input)
    while (!(await settlesWithin(answer, operationMs))) {
      const isLate = performance.now() - beganAt >= longestMs
      if (!isLate && (await worker.silence.ask().catch(() => 'answered')) !== 'silent') continue
      this.#abandon(worker, answer)
      throw this.#silent(began)
    }
    worker.silence.hear()
    return answer.catch((error: unknown) => this.#suspectMount(worker, error))
  }

  /** One file that is gone fails in the same way as a dead mount: the storage itself is asked. */
  async #suspectMount(worker: Worker, error: unknown): Promise<never> {
    if (isOfDeadMount(error)) await this.#ask(worker).catch(() => undefined)
    throw error
  }

  /** It may be done yet, so nothing else begins before; and it gets its time for that once the storage answers. */
  #abandon(worker: Worker, work: Promise<unknown>): void {
    const { giveUpMs, operationMs } = this.#options.deadlines
    worker.abandoned.add(work)
    const since = new Date()
    const giveUp = setTimeout(() => {
      if (this.#worker === worker && worker.silence.since === null) this.end(this.#silent(since))
    }, giveUpMs + operationMs)
    const settle = (): void => {
      clearTimeout(giveUp)
      worker.abandoned.delete(work)
    }
    work.then(settle, settle)
  }

  async #watched<V extends LongVerb>(
    worker: Worker,
    verb: V,
    input: Input<V>,
    { signal, onProgress }: Watching<V>,
  ): Promise<Output<V>> {
    signal?.throwIfAborted()
    const { quietMs } = this.#options.deadlines
    const { process, silence } = worker
    let heardAt = performance.now()
    const hear = (): void => {
      heardAt = performance.now()
      silence.hear()
    }
    const suspect = (): void => {
      if (performance.now() - heardAt < quietMs) return
      heardAt = performance.now()
      // The answer is for the whole repository; here it is enough that somebody asked.
      silence.ask().catch(() => undefined)
    }
    const watch = setInterval(suspect, quietMs / 5)
    const work = process.call(verb, input, { signal, onProgress: onMovement(hear, onProgress) })
    const cancel = (): void => void this.#letGo(worker, work)
    signal?.addEventListener('abort', cancel, { once: true })
    try {
      return await work
    } catch (error) {
      signal?.throwIfAborted()
      if (verb === 'transferDisk' && error instanceof HoldfastError && error.code === 'DISK_WRITE_FAILED') {
        this.#options.onLostWrite?.()
      }
      return await this.#suspectMount(worker, error)
    } finally {
      clearInterval(watch)
      signal?.removeEventListener('abort', cancel)
    }
  }

  /** Cancelled work leaves a checkpoint, if its storage lets it; one that does not come to an end ends with its process. */
  async #letGo(worker: Worker, work: Promise<unknown>): Promise<void> {
    const { graceMs, flushMs } = this.#options.deadlines
    if (await settlesWithin(work, graceMs)) return
    const answers = await worker.silence.ask().catch(() => 'answered')
    if (answers !== 'silent' && (await settlesWithin(work, flushMs - graceMs))) return
    if (this.#worker === worker) this.end(this.#silent(worker.silence.since ?? new Date()))
  }

  get #name(): string {
    return this.#options.name ?? `Repository ${this.#options.repositoryId}`
  }

  #silent(since: Date): HoldfastError {
    const { repositoryId, root } = this.#options
    return new HoldfastError(
      'REPO_UNAVAILABLE',
      `${this.#name} at ${root} has not answered since ${since.toISOString()}: check the share or its disk. It is tried again.`,
      { details: { repository_id: repositoryId, path: root, since: since.toISOString() } },
    )
  }
}

/** The server has forgotten what is mounted, or the file system's own process is gone. */
const deadMounts: ReadonlySet<unknown> = new Set(['ESTALE', 'ENOTCONN'])

function isOfDeadMount(error: unknown): error is HoldfastError {
  return error instanceof HoldfastError && deadMounts.has(error.details['errno'])
}

/** Told as it comes; only what is further than before is a sign of life. */
function onMovement<P extends { processedBytes: number }>(
  hear: () => void,
  onProgress: ((progress: P) => void) | undefined,
): (progress: P) => void {
  let processedBytes = -1
  return (progress) => {
    if (progress.processedBytes !== processedBytes) hear()
    processedBytes = progress.processedBytes
    onProgress?.(progress)
  }
}
