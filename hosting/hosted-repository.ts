/**
 * A repository as the steps of a mover use it: its files, the disks in them, and where that work is done. A repository in a folder of a local
 * disk is worked on in the mover itself. One on a share, or on anything else that may stop answering, is worked on by a process of its own:
 * a system call on a dead share cannot be interrupted, so it must not be one of the mover's.
 *
 * Whatever is asked here is answered: short work within its deadline (`REPO_UNAVAILABLE`, retryable), disk work at the latest a short while
 * after it was cancelled. Work that did not come back goes on to be waited for: nothing else is begun on the same files before it has ended.
 */
import type { ChainLink } from '../disks/chain.ts'
import type { RestoreProgress, RestoreRequest, RestoreResult } from '../disks/restore.ts'
import type { TransferProgress, TransferRequest, TransferResult } from '../disks/transfer.ts'
import type { VerifyRequest, VerifyResult } from '../disks/verify.ts'
import type { JsonObject } from '../domain/errors.ts'
import type { Progress } from '../domain/progress.ts'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import type { Repository } from '../repositories/repository.ts'

export interface HostedRepository extends Repository {
  readonly disks: DiskWork
}

export interface Watched<P> {
  signal?: AbortSignal | undefined
  onProgress?: ((progress: P) => void) | undefined
}

/** The verbs of `disks/` that read or write files of a repository, with the same words and the same errors. May be called without their object. */
export interface DiskWork {
  readonly checkChain: (links: readonly ChainLink[]) => Promise<JsonObject>
  readonly transferDisk: (request: TransferRequest, options?: Watched<TransferProgress>) => Promise<TransferResult>
  readonly verifyDisk: (request: VerifyRequest, options?: Watched<Progress>) => Promise<VerifyResult>
  readonly restoreDiskTo: (request: RestoreRequest, options?: Watched<RestoreProgress>) => Promise<RestoreResult>
}

/** What else touches where a restore writes: see `checkRestoreTarget` and `discardRestore` of `disks/`. Besides their errors `REPO_UNAVAILABLE`, as everything here. */
export interface TargetWork {
  /** `repositoryRoots`: absolute, without links: see `placeOf`. */
  readonly checkRestoreTarget: (targetPath: string, restoreId: string, repositoryRoots: readonly string[]) => Promise<void>
  readonly discardRestore: (targetPath: string, restoreId: string) => Promise<void>
}

/** What is known of a share's mount, from the kernel's list and our own notes. */
export type MountState =
  | { mounted: false; reason: string | null }
  | { mounted: true; mountPoint: string; source: string; fileSystem: string }

/** All repositories of one mover. */
export interface RepositoryHost {
  readonly targets: TargetWork
  /** Touches nothing: shares are mounted, and processes started, by the first thing that is asked of it. `REPO_INVALID`. */
  open(record: RepositoryRecord): HostedRepository
  /** Mounts what has a share; nothing for others. `CONNECTION_FAILED`, `REPO_AUTHENTICATION_FAILED`, `REPO_INVALID`. Idempotent. */
  mount(record: RepositoryRecord): Promise<MountState>
  /** `REPO_IN_USE` while work of this mover uses it, unless `force`. A share that does not answer goes lazily. Idempotent. */
  unmount(record: RepositoryRecord, options: { force: boolean }): Promise<MountState>
  /** Forgets a repository that is no longer registered, or never was: unmounts, ends its process. Idempotent. */
  forget(record: RepositoryRecord): Promise<void>
  /** Never waits for a share. */
  close(): Promise<void>
}
