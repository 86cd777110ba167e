/** Making, testing, reaching and giving up the places of repositories, where they are. */
import { findRepository } from '../db/queries/repositories.ts'
import { HoldfastError, isErrorCode } from '../domain/errors.ts'
import type { Enforcement } from '../domain/immutability.ts'
import { liesIn } from '../domain/repository-overlap.ts'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import type { StorageInfo } from '../domain/storage.ts'
import type { MountState } from '../hosting/hosted-repository.ts'
import type { RepositoryRequest } from '../temporal/operations.ts'
import { enforcementAt } from './backup-locks.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'
import { refuseNestedFolders, refuseUnlessUsable } from './place-checks.ts'
import { lookAt } from './storage-monitoring.ts'

/** Where a repository is to be reached instead. */
export interface MovedRepository {
  repository: RepositoryRequest
  place: Pick<RepositoryRequest, 'config' | 'credentialsId'>
}

export interface RepositoryPlaceActivities {
  /** Nothing for a folder, but that a new one is refused where it lies within another's. `CONNECTION_FAILED`, `REPO_*`. Idempotent. */
  mountRepository(repository: RepositoryRequest): Promise<MountState>

  /** `REPO_IN_USE` unless `force`. Idempotent. */
  unmountRepository(input: { repository: RepositoryRequest; force: boolean }): Promise<MountState>

  /** Makes the place a repository, which takes and gives back what is written. `REPO_*`. Idempotent. */
  initializeRepository(repository: RepositoryRequest): Promise<StorageInfo>

  /** Writes, reads back, and removes; of a registered repository only where its own files lie. `REPO_*`. Leaves nothing behind but the mount. */
  probeRepository(repository: RepositoryRequest): Promise<StorageInfo>

  /** What really keeps locked files there from being changed; whose files, as {@link probeRepository}. `REPO_*`. Leaves nothing behind. */
  probeImmutability(repository: RepositoryRequest): Promise<Enforcement>

  /** `REPO_INVALID` when another place does not hold this very repository, `IMMUTABILITY_UNSUPPORTED` when it could not keep its locks. Leaves nothing behind. */
  checkMovedRepository(moved: MovedRepository): Promise<StorageInfo>

  /** Takes back what {@link initializeRepository} made, unless something is in it. Whether nothing of it is left. Idempotent. */
  clearRepository(repository: RepositoryRequest): Promise<boolean>

  /** Unmounts, and ends what works on it; that of one that is registered begins again when it is needed. Its files stay. Idempotent. */
  forgetRepository(repository: RepositoryRequest): Promise<void>

  /** Begins to take this repository's transfers. Idempotent. */
  attachRepository(repositoryId: string): Promise<void>
}

/** Mounting is part of it. */
const PROBE_DEADLINE_MS = 60_000

type Dependencies = Pick<
  HostDependencies,
  'catalog' | 'repositories' | 'locker' | 'attachRepository' | 'detachRepository' | 'mountsFolder'
>

/** Steps of a data host. */
export function createRepositoryPlaceActivities({
  catalog,
  repositories,
  locker,
  attachRepository,
  detachRepository,
  mountsFolder,
}: Dependencies): RepositoryPlaceActivities {
  /** A place that nobody registered may hold anything, or nothing. Of others an empty folder shows that the disk is not mounted. */
  async function probe(repository: RepositoryRequest): Promise<StorageInfo> {
    const record = recordOf(repository)
    const opened = repositories.open(record)
    if (!(await findRepository(catalog, record.id))) {
      await refuseUnlessUsable(catalog, opened, record.id)
      return opened.storage()
    }
    const look = await lookAt(record, () => opened, { deadlineMs: PROBE_DEADLINE_MS })
    if (look.reached) return look.storage
    const code = isErrorCode(look.code) ? look.code : 'INTERNAL'
    throw new HoldfastError(code, look.message, { details: { repository_id: record.id } })
  }

  /** What is promised as immutable must be so where it is from now on. */
  async function requireLockable(repositoryId: string, place: RepositoryRecord): Promise<void> {
    if (!(await findRepository(catalog, repositoryId))?.is_immutable) return
    const { enforcedBy, reason } = await enforcementAt({ repositories, locker }, place)
    if (enforcedBy !== 'none') return
    throw new HoldfastError(
      'IMMUTABILITY_UNSUPPORTED',
      `Backups could not be kept from being changed there: ${reason}. Use a place that can, or switch immutability off first.`,
      { details: { enforced_by: 'none', reason } },
    )
  }

  return guarded({
    async mountRepository(repository: RepositoryRequest): Promise<MountState> {
      refuseOurMounts(repository, mountsFolder)
      // Of one that is registered it is too late to say so.
      if (!(await findRepository(catalog, repository.repositoryId))) await refuseNestedFolders(catalog, repository)
      return repositories.mount(recordOf(repository))
    },

    async unmountRepository({ repository, force }: { repository: RepositoryRequest; force: boolean }): Promise<MountState> {
      return repositories.unmount(recordOf(repository), { force })
    },

    async initializeRepository(repository: RepositoryRequest): Promise<StorageInfo> {
      const opened = repositories.open(recordOf(repository))
      await opened.initialize()
      return requireWritable(await opened.storage())
    },

    async probeRepository(repository: RepositoryRequest): Promise<StorageInfo> {
      return probe(repository)
    },

    async probeImmutability(repository: RepositoryRequest): Promise<Enforcement> {
      // A share is mounted by the first question.
      await probe(repository)
      return enforcementAt({ repositories, locker }, recordOf(repository))
    },

    async checkMovedRepository({ repository, place }: MovedRepository): Promise<StorageInfo> {
      refuseOurMounts({ ...repository, ...place }, mountsFolder)
      await refuseNestedFolders(catalog, { ...repository, ...place })
      // A name of its own: the repository goes on working where it is until the other place is known to be good.
      const aside = recordOf({ ...repository, ...place, repositoryId: `${repository.repositoryId}-moved` })
      try {
        await repositories.mount(aside)
        const opened = repositories.open(aside)
        requireSame(repository.repositoryId, await opened.readIdentity())
        const storage = requireWritable(await opened.storage())
        await requireLockable(repository.repositoryId, aside)
        return storage
      } finally {
        await repositories.forget(aside)
      }
    },

    async clearRepository(repository: RepositoryRequest): Promise<boolean> {
      return repositories.open(recordOf(repository)).clear()
    },

    async forgetRepository(repository: RepositoryRequest): Promise<void> {
      await repositories.forget(recordOf(repository))
      // One that moves is forgotten where it was, and goes on taking transfers.
      if (!(await findRepository(catalog, repository.repositoryId))) await detachRepository(repository.repositoryId)
    },

    async attachRepository(repositoryId: string): Promise<void> {
      await attachRepository(repositoryId)
    },
  })
}

export function recordOf({ repositoryId: id, type, config, credentialsId = null }: RepositoryRequest): RepositoryRecord {
  return { id, type, config, credentialsId }
}

/** What lies there is some share's, and goes out of sight with it. */
function refuseOurMounts({ type, config }: Pick<RepositoryRequest, 'type' | 'config'>, mountsFolder: string): void {
  const { path } = config
  if (type !== 'local' || typeof path !== 'string') return
  if (!liesIn(path, mountsFolder) && !liesIn(mountsFolder, path)) return
  throw new HoldfastError(
    'REPO_INVALID',
    `"${path}" is where Holdfast mounts shares: choose a folder of its own for the repository.`,
    {
      details: { path },
    },
  )
}

function requireWritable(storage: StorageInfo): StorageInfo {
  if (storage.writable) return storage
  throw new HoldfastError(
    'REPO_INVALID',
    'The place can be read, but takes no files: check its owner, its mount options, and whether it is full.',
  )
}

function requireSame(repositoryId: string, found: string | null): void {
  if (found === repositoryId) return
  const what = found === null ? 'no repository' : 'another repository'
  throw new HoldfastError(
    'REPO_INVALID',
    `The new place holds ${what}: a repository can only be changed to where its own files are. To begin anew there, register it as another one.`,
    { details: { repository_id: repositoryId, found_repository_id: found } },
  )
}
