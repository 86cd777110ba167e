/** Looking at repositories, and noting what the looks found. */
import { setTimeout as delay } from 'node:timers/promises'
import { cancellationSignal } from '@temporalio/activity'
import type { Catalog } from '../db/client.ts'
import { pruneAlerts } from '../db/queries/alerts.ts'
import { listRepositoriesToLookAt, recordLook } from '../db/queries/repository-health.ts'
import type { RecordedLook, RepositoryOfHost } from '../db/queries/repository-health.ts'
import { SAMPLES_DAYS, pruneSamples } from '../db/queries/repository-samples.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import type { StorageLook } from '../domain/storage-health.ts'
import type { StorageInfo } from '../domain/storage.ts'
import type { Repository } from '../repositories/repository.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'

/** A look that takes longer has not been answered, whoever promised to answer sooner. Less than the step may take: see `workflows/activity-options.ts`. */
const LOOK_DEADLINE_MS = 12_000
/** With the look less than the step may take. Where the reserve has to be written out it may take longer; that goes on, and nobody waits for it. */
const RESERVE_PATIENCE_MS = 1_000
const DAY_MS = 24 * 60 * 60 * 1000

export interface LookActivities {
  /** Mounts what has to be mounted, checks whose files lie there, reads the free space and writes a file. Unreachable is a result. Leaves nothing behind. */
  lookAtRepository(record: RepositoryRecord): Promise<StorageLook>
}

/** Steps of a data host, on a queue of their own: twenty long verifications must not make every repository look dead. */
export function createLookActivities({ repositories }: Pick<HostDependencies, 'repositories'>): LookActivities {
  const identities = new Map<string, Promise<string | null>>()
  const reserves = new Map<string, Promise<void>>()
  return guarded({
    async lookAtRepository(record: RepositoryRecord): Promise<StorageLook> {
      const signal = cancellationSignal()
      const open = () => {
        const repository = repositories.open(record)
        const readIdentity = () => onceAtATime(identities, repository.root, () => repository.readIdentity())
        return { readIdentity, storage: () => repository.storage() }
      }
      const look = await lookAt(record, open, { signal })
      // A mover that stops has not seen that a repository is away.
      signal.throwIfAborted()
      // What a deletion on a full disk gave back is set aside again; a failure is for the next look to tell.
      if (look.reached && look.storage.writable) {
        const repository = repositories.open(record)
        const kept = onceAtATime(reserves, repository.root, () => repository.keepReserve())
        await within(RESERVE_PATIENCE_MS, kept, signal).catch(() => undefined)
      }
      return look
    },
  })
}

/** What hangs in a dead disk keeps a thread of the mover: whoever asks the same meanwhile waits for the same answer. */
async function onceAtATime<T>(pending: Map<string, Promise<T>>, root: string, ask: () => Promise<T>): Promise<T> {
  const asked = pending.get(root)
  if (asked) return asked
  const answer = ask()
  pending.set(root, answer)
  try {
    return await answer
  } finally {
    pending.delete(root)
  }
}

/** Never throws; on abort, which is for the caller to see, it answers at once. `open`: touches nothing. */
export async function lookAt(
  { id }: Pick<RepositoryRecord, 'id'>,
  open: () => Pick<Repository, 'readIdentity' | 'storage'>,
  { deadlineMs = LOOK_DEADLINE_MS, signal }: { deadlineMs?: number; signal?: AbortSignal } = {},
): Promise<StorageLook> {
  const began = performance.now()
  const latencyMs = (): number => performance.now() - began
  try {
    const storage = await within(deadlineMs, look(id, open), signal)
    return { reached: true, storage, latencyMs: latencyMs() }
  } catch (error) {
    const known = error instanceof HoldfastError ? error : undefined
    const message = known?.message ?? 'The look at it failed for a reason that nobody foresaw: see the log of its mover.'
    return { reached: false, code: known?.code ?? 'INTERNAL', message, latencyMs: latencyMs() }
  }
}

/** Under a share or disk that is not mounted lies a folder, too, with the free space of another disk. */
async function look(id: string, open: () => Pick<Repository, 'readIdentity' | 'storage'>): Promise<StorageInfo> {
  const repository = open()
  const found = await repository.readIdentity()
  if (found === id) return repository.storage()
  throw new HoldfastError(
    'REPO_UNAVAILABLE',
    found === null
      ? 'No repository lies in its place: the disk or share is not mounted, or was emptied.'
      : `Another repository (${found}) lies in its place: check what is mounted there.`,
    { details: { repository_id: id, found_repository_id: found } },
  )
}

async function within<T>(deadlineMs: number, work: Promise<T>, aborted?: AbortSignal): Promise<T> {
  const waiting = new AbortController()
  const signal = aborted ? AbortSignal.any([waiting.signal, aborted]) : waiting.signal
  // Whoever waited has left at the deadline: the late answer is nobody's unhandled rejection.
  work.catch(() => {})
  const late = delay(deadlineMs, undefined, { signal }).then(() => {
    throw new HoldfastError('REPO_UNAVAILABLE', `It did not answer within ${deadlineMs / 1000} s: check the disk or share.`, {
      details: { timeout_ms: deadlineMs },
    })
  })
  try {
    return await Promise.race([work, late])
  } finally {
    late.catch(() => {})
    waiting.abort()
  }
}

export interface StorageMonitoringActivities {
  /** All that are to be looked at, or the one; none when that is not registered. */
  listRepositoriesToLookAt(only: string | null): Promise<RepositoryOfHost[]>

  /** State, sample and alerts, at once. `null` when it is no longer registered. */
  recordLook(input: { repositoryId: string; look: StorageLook }): Promise<RecordedLook | null>

  /** Keeps samples and alerts from growing for ever. */
  pruneMonitoring(): Promise<void>
}

/** Steps of the control worker. */
export function createStorageMonitoringActivities({ catalog }: { catalog: Catalog }): StorageMonitoringActivities {
  return guarded({
    async listRepositoriesToLookAt(only: string | null): Promise<RepositoryOfHost[]> {
      return listRepositoriesToLookAt(catalog, only)
    },

    async recordLook({ repositoryId, look }: { repositoryId: string; look: StorageLook }): Promise<RecordedLook | null> {
      return recordLook(catalog, repositoryId, look)
    },

    async pruneMonitoring(): Promise<void> {
      const now = new Date()
      await pruneSamples(catalog, now)
      await pruneAlerts(catalog, new Date(now.getTime() - SAMPLES_DAYS * DAY_MS))
    },
  })
}
