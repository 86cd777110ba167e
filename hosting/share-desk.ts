/**
 * The shares of one mover: each mounted at `<folder>/<repository id>` when it is first needed, and found again by the next process, because a mount
 * outlives whoever made it. Nothing here touches a file of a share; what is mounted is read from the kernel's list.
 */
import { mkdir, readdir, realpath, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../domain/errors.ts'
import type { MountedShare, Mounter, SealedShare } from '../repositories/share-mounts.ts'
import { readMountInfo } from '../tools/mount-info.ts'
import type { MountState } from './hosted-repository.ts'

/** A mount has its own time limit; one that does not even come back from being killed is left alone after this long. */
const PATIENCE_MS = 45_000

export interface ShareDeskOptions {
  /** `<home>/mounts`, absolute; made when it is first needed. Nothing else lies in it. */
  folder: string
  mounter: Mounter
  /** Opens what is sealed. */
  passwordOf: (credentialsId: string) => Promise<string>
  patienceMs?: number
}

interface Waiting {
  signal?: AbortSignal | undefined
}

export class ShareDesk {
  readonly #options: Required<ShareDeskOptions>
  /** The last thing that was begun for each repository: they take turns. */
  readonly #turns = new Map<string, Promise<unknown>>()
  /** What a repository is being mounted as, for those who want just that. */
  readonly #flights = new Map<string, { share: string; mounting: Promise<string> }>()
  /** What we mounted, and as what the kernel's list has it: that does not tell all options. */
  readonly #mountedAs = new Map<string, { share: string; found: MountedShare }>()
  readonly #failures = new Map<string, string>()

  constructor(options: ShareDeskOptions) {
    this.#options = { patienceMs: PATIENCE_MS, ...options }
  }

  /**
   * Has the share mounted, and returns where. What else is mounted there goes first. `CONNECTION_FAILED`, `REPO_AUTHENTICATION_FAILED`, `REPO_INVALID`,
   * `TOOL_MISSING`; `REPO_BUSY` while something else there is in use; `REPO_UNAVAILABLE` when nothing comes back. An abort ends the waiting only.
   */
  async mount(id: string, share: SealedShare, { signal }: Waiting = {}): Promise<string> {
    const wanted = asText(share)
    const flight = this.#flights.get(id)
    if (flight?.share === wanted) return this.#waitFor(flight.mounting, id, signal)
    const mounting = this.#inTurn(id, (root) => this.#mountNow(id, root, share)).finally(() => {
      if (this.#flights.get(id)?.mounting === mounting) this.#flights.delete(id)
    })
    this.#flights.set(id, { share: wanted, mounting })
    return this.#waitFor(mounting, id, signal)
  }

  /** The same for work that can wait: a server that cannot be reached now is `REPO_UNAVAILABLE`, retryable. */
  async ensure(id: string, share: SealedShare, waiting: Waiting = {}): Promise<string> {
    try {
      return await this.mount(id, share, waiting)
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code !== 'CONNECTION_FAILED') throw error
      throw new HoldfastError('REPO_UNAVAILABLE', error.message, { details: error.details, cause: error })
    }
  }

  /** `lazy`: out of sight at once. Otherwise `REPO_BUSY` while it is in use; one that does not answer goes lazily all the same. Idempotent. */
  async release(id: string, { lazy }: { lazy: boolean }): Promise<void> {
    // Who wants it mounted from now on does not mean the mount that goes away.
    this.#flights.delete(id)
    const releasing = this.#inTurn(id, (root) => this.#takeAway(id, root, lazy))
    await this.#waitFor(releasing, id, undefined)
  }

  /** From the kernel's list; never waits for a share. */
  async state(id: string): Promise<MountState> {
    const mountPoint = await this.#rootOf(id)
    const found = await this.#options.mounter.mounted(mountPoint)
    return found ? { mounted: true, mountPoint, ...found } : { mounted: false, reason: this.#failures.get(id) ?? null }
  }

  /** Unmounts what is left of repositories that are no longer known, and returns their ids. One that is still in use is left for the next time. */
  async releaseAllBut(known: readonly string[]): Promise<string[]> {
    const folder = await this.#folder()
    const entries = await readMountInfo()
    const mounted = entries.map(({ mountPoint }) => mountPoint).filter((path) => path.startsWith(`${folder}/`))
    const names = [...mounted.map((path) => path.slice(folder.length + 1)), ...(await readdir(folder))]
    const left = [...new Set(names)].filter((name) => isId(name) && !known.includes(name))
    const gone = await Promise.all(
      left.map((id) =>
        this.release(id, { lazy: false }).then(
          () => [id],
          () => [],
        ),
      ),
    )
    return gone.flat()
  }

  async #mountNow(id: string, root: string, share: SealedShare): Promise<string> {
    const { mounter, passwordOf } = this.#options
    if (!(await this.#makeRoom(id, root, share))) return root
    try {
      await mkdir(root, { mode: 0o700 }).catch(unlessExists)
      const { credentialsId, ...open } = share
      const password = credentialsId === null ? null : await passwordOf(credentialsId)
      await mounter.mount({ ...open, password }, root, { signal: undefined })
      const found = await mounter.mounted(root)
      if (found === null) throw notThere(share)
      this.#mountedAs.set(id, { share: asText(share), found })
      this.#failures.delete(id)
      return root
    } catch (error) {
      this.#failures.set(id, error instanceof Error ? error.message : String(error))
      throw error
    }
  }

  /** Whether there is something to mount: not when just that is mounted already. */
  async #makeRoom(id: string, root: string, share: SealedShare): Promise<boolean> {
    const found = await this.#options.mounter.mounted(root)
    if (found === null) return true
    const ours = this.#mountedAs.get(id)
    const isOurs = ours !== undefined && isSame(found, ours.found)
    if (isOurs && ours.share === asText(share)) return false
    const sameShare = isSame(found, share)
    if (sameShare && !isOurs) return false
    try {
      await this.#takeAway(id, root, false)
      return true
    } catch (error) {
      // Other options of the same share can wait until nobody uses it.
      if (sameShare) return false
      throw error
    }
  }

  async #takeAway(id: string, root: string, lazy: boolean): Promise<void> {
    const { mounter } = this.#options
    // Somebody may have mounted over it; a second pass finds what lay below.
    while ((await mounter.mounted(root)) !== null) {
      await mounter.unmount(root, { lazy }).catch(async (error: unknown) => {
        if (!(error instanceof HoldfastError) || error.code !== 'REPO_UNAVAILABLE') throw error
        await mounter.unmount(root, { lazy: true })
      })
    }
    this.#mountedAs.delete(id)
    this.#failures.delete(id)
    // Only an empty folder goes: nothing of ours lies below a mount.
    await rmdir(root).catch(() => undefined)
  }

  /** Turns are in the order of the calls: nothing may be awaited before. */
  #inTurn<T>(id: string, run: (root: string) => Promise<T>): Promise<T> {
    const inFolder = async (): Promise<T> => run(await this.#rootOf(id))
    const turn = (this.#turns.get(id) ?? Promise.resolve()).then(inFolder, inFolder)
    this.#turns.set(id, turn)
    const forget = (): void => {
      if (this.#turns.get(id) === turn) this.#turns.delete(id)
    }
    turn.then(forget, forget)
    return turn
  }

  async #waitFor<T>(work: Promise<T>, id: string, signal: AbortSignal | undefined): Promise<T> {
    const patience = new AbortController()
    const limits = AbortSignal.any([patience.signal, ...(signal ? [signal] : [])])
    const tooLong = delay(this.#options.patienceMs, undefined, { signal: limits }).then(
      () => {
        throw unanswered(join(this.#options.folder, id), this.#options.patienceMs)
      },
      // Called off, or the work came first, and nobody listens any more.
      () => {
        throw signal?.reason
      },
    )
    try {
      return await Promise.race([work, tooLong])
    } finally {
      patience.abort()
      // Whoever stops waiting leaves nobody's unhandled rejection.
      work.catch(() => undefined)
      tooLong.catch(() => undefined)
    }
  }

  async #rootOf(id: string): Promise<string> {
    if (!isId(id)) throw new HoldfastError('REPO_INVALID', 'The id of a repository holds letters, digits, "-" and "_".')
    return join(await this.#folder(), id)
  }

  /** Without links, as the kernel's list has it. */
  async #folder(): Promise<string> {
    await mkdir(this.#options.folder, { recursive: true, mode: 0o700 })
    return realpath(this.#options.folder)
  }
}

function isId(name: string): boolean {
  return /^[A-Za-z0-9_-]{1,64}$/.test(name)
}

function asText(share: SealedShare): string {
  return JSON.stringify([share.fileSystem, share.source, share.options, share.credentialsId])
}

/** `nfs` shows as `nfs4`; a slash at the end comes and goes. */
function isSame(found: MountedShare, share: MountedShare): boolean {
  const plain = (source: string): string => source.replace(/(?<=[^:/])\/+$/, '')
  return found.fileSystem.startsWith(share.fileSystem) && plain(found.source) === plain(share.source)
}

function unlessExists(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error
}

function notThere(share: SealedShare): HoldfastError {
  return new HoldfastError('REPO_UNAVAILABLE', `${share.source} was mounted, and is not there any more. It is tried again.`, {
    details: { source: share.source },
  })
}

function unanswered(root: string, timeoutMs: number): HoldfastError {
  return new HoldfastError(
    'REPO_UNAVAILABLE',
    `Nothing came back within ${timeoutMs / 1000} s about what is mounted at ${root}: check the share.`,
    {
      details: { mount_point: root, timeout_ms: timeoutMs },
    },
  )
}
