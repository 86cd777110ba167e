/** Locking published backups for as long as their repository says, and taking off what has ended. */
import { listLockable, recordLocks, retentionRules } from '../db/queries/backup-locks.ts'
import type { LockableBackup } from '../db/queries/backup-locks.ts'
import { loadBackupWork } from '../db/queries/backup-records.ts'
import type { BackupWork } from '../db/queries/backup-records.ts'
import type { BackupRepository } from '../db/queries/repositories.ts'
import { HoldfastError } from '../domain/errors.ts'
import { lockDays, lockEnds } from '../domain/immutability.ts'
import type { Enforcement } from '../domain/immutability.ts'
import type { LockRequest } from '../domain/lock-protocol.ts'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import { locateBackup, referenceIn, repositoryRecord } from './backup-location.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'

/** Asked of the locker at a time. */
const CHUNK = 50
const PROBE_DEADLINE_MS = 20_000
/** For a question about so many. */
export const CHUNK_DEADLINE_MS = 120_000

export type LockingDependencies = Pick<HostDependencies, 'catalog' | 'repositories' | 'locker'>
export type Lock = LockRequest['backups'][number]

export interface BackupLockActivities {
  /**
   * Locks a published backup and everything that it cannot be read without, for as long as its repository says. `null`: it locks nothing.
   * `LOCK_FAILED` (retryable) with what could not be locked; what could stays. Idempotent.
   */
  lockBackup(backupId: string): Promise<{ lockedUntil: string | null }>
}

/** Steps of a data host. */
export function createBackupLockActivities(dependencies: LockingDependencies): BackupLockActivities {
  return guarded({
    async lockBackup(backupId: string): Promise<{ lockedUntil: string | null }> {
      const until = await lockWithChain(dependencies, await loadBackupWork(dependencies.catalog, backupId))
      return { lockedUntil: until?.toISOString() ?? null }
    },
  })
}

/** Whether locks are worth anything at a place, registered or not, which is mounted. A place that cannot be asked enforces nothing. `REPO_*` */
export async function enforcementAt(
  { repositories, locker }: Pick<HostDependencies, 'repositories' | 'locker'>,
  record: RepositoryRecord,
): Promise<Enforcement> {
  const { root } = repositories.open(record)
  try {
    return await locker.probe({ root }, { deadlineMs: PROBE_DEADLINE_MS })
  } catch (error) {
    if (error instanceof HoldfastError && ['LOCK_FAILED', 'TOOL_MISSING'].includes(error.code)) {
      return { enforcedBy: 'none', reason: error.message }
    }
    throw error
  }
}

/** Takes off a lock that has ended. `IMMUTABLE_RETENTION_ACTIVE`: the locker's own record says that it has not; from then on the catalog knows. Idempotent. */
export async function unlockBackup(dependencies: LockingDependencies, work: BackupWork): Promise<void> {
  const { job, repository: row } = work
  const { repository, reference } = locateBackup(work, dependencies)
  try {
    await dependencies.locker.unlock({ root: repository.root, repositoryId: row.id, ...reference })
  } catch (error) {
    const until = error instanceof HoldfastError ? error.details['retention_expires_at'] : undefined
    // The catalog knew less than the record: the next one is refused at once.
    if (typeof until === 'string') await recordLocks(dependencies.catalog, [{ backupId: job.id, until: new Date(until) }])
    throw error
  }
}

/** Until when the backup is locked now; `null` where nothing is locked. `LOCK_FAILED` */
export async function lockWithChain(
  dependencies: LockingDependencies,
  { job, repository: row }: BackupWork,
): Promise<Date | null> {
  const rules = retentionRules(row)
  if (lockDays(rules) === null) return null
  const backups = await listLockable(dependencies.catalog, row.id, job.vm_context_id)
  const ends = lockEnds(backups, rules, new Date())
  const locks = chainOf(job.id, backups).flatMap((backup) => lockOf(backup, ends))
  if (locks.length === 0) return null
  const failed = await lockAll(dependencies, row, locks)
  if (failed.length > 0) {
    const reasons = failed.map(({ reason }) => reason).join(' ')
    throw new HoldfastError('LOCK_FAILED', `Not every backup that ${job.id} needs could be locked: ${reasons}`, {
      details: { backup_id: job.id, failed: failed.map(({ backupId }) => backupId) },
    })
  }
  return ends.get(job.id) ?? null
}

/** The backup, then what it needs, newest first. */
function chainOf(backupId: string, backups: readonly LockableBackup[]): LockableBackup[] {
  const byId = new Map(backups.map((backup) => [backup.id, backup]))
  const chain: LockableBackup[] = []
  let next = byId.get(backupId)
  while (next && !chain.includes(next)) {
    chain.push(next)
    next = next.parentBackupId === null ? undefined : byId.get(next.parentBackupId)
  }
  return chain
}

/** None where it needs no lock now. */
export function lockOf(backup: LockableBackup, ends: ReadonlyMap<string, Date>): Lock[] {
  const until = ends.get(backup.id)
  return until === undefined ? [] : [{ ...referenceIn(backup.repositoryPath), until: until.toISOString() }]
}

/** Locks, and notes what is locked. Returns what could not be. */
export async function lockAll(
  { catalog, repositories, locker }: LockingDependencies,
  row: BackupRepository,
  locks: Lock[],
): Promise<{ backupId: string; reason: string }[]> {
  const { root } = repositories.open(repositoryRecord(row))
  const failed: { backupId: string; reason: string }[] = []
  for (const backups of chunksOf(locks)) {
    const answer = await locker.lock({ root, repositoryId: row.id, backups }, { deadlineMs: CHUNK_DEADLINE_MS })
    await recordLocks(
      catalog,
      answer.locked.map(({ backupId, until }) => ({ backupId, until: new Date(until) })),
    )
    failed.push(...answer.failed)
  }
  return failed
}

/** What the locker is asked in one question. */
export function chunksOf<T>(items: readonly T[]): T[][] {
  const chunks: T[][] = []
  for (let start = 0; start < items.length; start += CHUNK) chunks.push(items.slice(start, start + CHUNK))
  return chunks
}
