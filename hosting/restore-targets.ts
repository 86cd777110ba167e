/**
 * Where restores write. A target on a share or FUSE may hang like a repository there, so it is touched by a process of its own, one for each folder,
 * which ends when nobody needs it: in the mover it would take one of the threads that all share.
 */
import { createHash } from 'node:crypto'
import { dirname } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import type { Deadlines } from './deadlines.ts'
import { GuardedRepository } from './guarded-repository.ts'
import { placeOf } from './hanging-file-systems.ts'
import type { TargetWork } from './hosted-repository.ts'
import { localTargets } from './local-disks.ts'

interface RestoreTargetsOptions {
  deadlines: Deadlines
  log: (level: 'info' | 'warn', message: string) => void
}

export class RestoreTargets implements TargetWork {
  readonly #options: RestoreTargetsOptions
  readonly #guards = new Map<string, GuardedRepository>()
  #isClosed = false

  constructor(options: RestoreTargetsOptions) {
    this.#options = options
  }

  checkRestoreTarget(...input: Parameters<TargetWork['checkRestoreTarget']>): Promise<void> {
    return this.at(
      input[0],
      (guard) => guard.short('checkRestoreTarget', input),
      () => localTargets.checkRestoreTarget(...input),
    )
  }

  discardRestore(...input: Parameters<TargetWork['discardRestore']>): Promise<void> {
    return this.at(
      input[0],
      (guard) => guard.short('discardRestore', input),
      () => localTargets.discardRestore(...input),
    )
  }

  /** Does it `there`, in the process of the target's folder, or `here`, where nothing can hang. */
  async at<T>(targetPath: string, there: (guard: GuardedRepository) => Promise<T>, here: () => Promise<T>): Promise<T> {
    const { path: folder, mayHang } = await placeOf(dirname(targetPath))
    if (!mayHang) return here()
    const guard = this.#guardOf(folder)
    try {
      return await there(guard)
    } finally {
      if (guard.users === 0 && !guard.isSilent) guard.end(notNeeded(folder))
    }
  }

  /** Never waits for storage. */
  close(): void {
    this.#isClosed = true
    for (const [folder, guard] of this.#guards) guard.retire(notNeeded(folder))
  }

  #guardOf(folder: string): GuardedRepository {
    if (this.#isClosed) throw notNeeded(folder)
    const known = this.#guards.get(folder)
    if (known) return known
    const guard = new GuardedRepository({
      ...this.#options,
      repositoryId: `restores-${createHash('sha256').update(folder).digest('hex')}`,
      name: 'The folder for restores',
      root: folder,
      prepare: async () => undefined,
      onGivenUp: () => undefined,
    })
    this.#guards.set(folder, guard)
    return guard
  }
}

function notNeeded(folder: string): HoldfastError {
  return new HoldfastError('REPO_UNAVAILABLE', `The mover no longer works in ${folder}; the next attempt does.`, {
    details: { path: folder },
  })
}
