/** Locking published backups for as long as their repository says, and seeing whether the locks still hold. */
import type { Catalog } from '../db/client.ts'
import { openAlert, resolveAlert } from '../db/queries/alerts.ts'
import {
  listLockable,
  recordAttestation,
  recordLocks,
  repositoriesWithLocks,
  retentionRules,
} from '../db/queries/backup-locks.ts'
import type { LockableBackup } from '../db/queries/backup-locks.ts'
import { loadBackupWork } from '../db/queries/backup-records.ts'
import type { BackupWork } from '../db/queries/backup-records.ts'
import { findRepository } from '../db/queries/repositories.ts'
import type { BackupRepository } from '../db/queries/repositories.ts'
import { HoldfastError } from '../domain/errors.ts'
import { lockDays, lockEnds } from '../domain/immutability.ts'
import type { Attestation, BrokenLock, Enforcement } from '../domain/immutability.ts'
import type { LockRequest } from '../domain/lock-protocol.ts'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import type { HostedRepository } from '../hosting/hosted-repository.ts'
import type { RepositoryOfHost } from '../temporal/operations.ts'
import { locateBackup, referenceIn, repositoryRecord } from './backup-location.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'

/** Asked of the locker at a time. */
const CHUNK = 50
const CHUNK_DEADLINE_MS = 120_000
const PROBE_DEADLINE_MS = 20_000
/** Named in an alert; the rest is counted. */
const NAMED_MAX = 10

type Dependencies = Pick<HostDependencies, 'catalog' | 'repositories' | 'locker'>
type Lock = LockRequest['backups'][number]

export interface BackupLockActivities {
  /**
   * Locks a published backup and everything that it cannot be read without, for as long as its repository says. `null`: it locks nothing.
   * `LOCK_FAILED` (retryable) with what could not be locked; what could stays. Idempotent.
   */
  lockBackup(backupId: string): Promise<{ lockedUntil: string | null }>

  /**
   * Looks at every lock of the repository, locks again what should be and is not, and opens or resolves the alert. A backup that nobody
   * had locked yet is locked without one. `REPO_*`, `LOCK_FAILED`. Idempotent.
   */
  attestLocks(repositoryId: string): Promise<Attestation>
}

/** Steps of a data host. */
export function createBackupLockActivities(dependencies: Dependencies): BackupLockActivities {
  const { catalog } = dependencies
  return guarded({
    async lockBackup(backupId: string): Promise<{ lockedUntil: string | null }> {
      const until = await lockWithChain(dependencies, await loadBackupWork(catalog, backupId))
      return { lockedUntil: until?.toISOString() ?? null }
    },

    async attestLocks(repositoryId: string): Promise<Attestation> {
      const row = await findRepository(catalog, repositoryId)
      if (!row) throw new HoldfastError('REPO_NOT_FOUND', `The repository ${repositoryId} is not registered.`)
      try {
        return await attestRepository(dependencies, row)
      } catch (error) {
        // A repository that is away has an alert of its own.
        if (error instanceof HoldfastError && error.code !== 'REPO_UNAVAILABLE') {
          await alertBroken(
            catalog,
            row,
            `its locks could not be looked at: ${error.message} Nobody knows whether they hold.`,
            [],
          )
        }
        throw error
      }
    },
  })
}

export interface LockRecordActivities {
  /** Repositories in which something is locked, or is to be. */
  listRepositoriesWithLocks(): Promise<RepositoryOfHost[]>

  /** Opens the alert about a backup that was published and could not be locked. Idempotent. */
  reportUnlocked(input: { backupId: string; message: string }): Promise<void>
}

/** Steps of the control worker. */
export function createLockRecordActivities({ catalog }: { catalog: Catalog }): LockRecordActivities {
  return guarded({
    async listRepositoriesWithLocks(): Promise<RepositoryOfHost[]> {
      const rows = await repositoriesWithLocks(catalog, new Date())
      return rows.map(({ id, hostId }) => ({ repositoryId: id, hostId }))
    },

    async reportUnlocked({ backupId, message }: { backupId: string; message: string }): Promise<void> {
      const { repository } = await loadBackupWork(catalog, backupId)
      const broken = [{ backupId, missing: [message], relocked: false }]
      await alertBroken(
        catalog,
        repository,
        `backup ${backupId} was published and could not be locked: ${message.replace(/\.?$/, '.')} Remove what keeps it from being locked.`,
        broken,
      )
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

/** Takes off a lock that has ended. `IMMUTABLE_RETENTION_ACTIVE`: the locker's own record says that it has not. Idempotent. */
export async function unlockBackup(dependencies: Dependencies, work: BackupWork): Promise<void> {
  const { job, repository: row } = work
  if (!row.is_immutable && job.locked_until === null) return
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
export async function lockWithChain(dependencies: Dependencies, { job, repository: row }: BackupWork): Promise<Date | null> {
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

function lockOf(backup: LockableBackup, ends: ReadonlyMap<string, Date>): Lock[] {
  const until = ends.get(backup.id)
  return until === undefined ? [] : [{ ...referenceIn(backup.repositoryPath), until: until.toISOString() }]
}

/** Locks, and notes what is locked. Returns what could not be. */
async function lockAll(
  { catalog, repositories, locker }: Dependencies,
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

async function attestRepository(dependencies: Dependencies, row: BackupRepository): Promise<Attestation> {
  const { catalog, repositories } = dependencies
  const now = new Date()
  const backups = await listLockable(catalog, row.id)
  const ends = lockEnds(backups, retentionRules(row), now)
  const promised = new Set(backups.filter(({ lockedUntil }) => lockedUntil !== null && lockedUntil > now).map(({ id }) => id))
  const locks = backups.flatMap((backup) => lockOf(backup, ends))
  const repository = repositories.open(repositoryRecord(row))

  const missing = await missingOf(dependencies, repository, locks)
  const again = locks.filter(({ backupId }) => missing.has(backupId))
  await lockAll(dependencies, row, again)
  const still = await missingOf(dependencies, repository, again)
  const broken = [...missing]
    .filter(([backupId]) => promised.has(backupId) || still.has(backupId))
    .map(([backupId, what]): BrokenLock => ({ backupId, missing: what, relocked: !still.has(backupId) }))
  if (broken.length > 0) {
    await alertBroken(
      catalog,
      row,
      `of ${locks.length} locked backups, ${broken.length} were not: ${namesOf(broken)} Find out who did this.`,
      broken,
    )
  } else {
    await recordAttestation(catalog, row.id, new Date())
    await resolveAlert(catalog, 'immutability_broken', row.id)
  }
  return { checked: locks.length, broken }
}

/** What of each lock is not there, by backup; those that hold are left out. */
async function missingOf(
  { locker }: Dependencies,
  repository: HostedRepository,
  locks: readonly Lock[],
): Promise<Map<string, string[]>> {
  const missing = new Map<string, string[]>()
  for (const backups of chunksOf(locks)) {
    const request = { root: repository.root, repositoryId: repository.id, backups }
    const { findings } = await locker.attest(request, { deadlineMs: CHUNK_DEADLINE_MS })
    for (const finding of findings) if (finding.missing.length > 0) missing.set(finding.backupId, finding.missing)
    for (const { vmFolder, backupId } of backups) {
      const damage = await damageOf(repository, { vmFolder, backupId })
      if (damage !== null) missing.set(backupId, [...(missing.get(backupId) ?? []), damage])
    }
  }
  return missing
}

/** A lock on a manifest that nobody can read keeps nothing. */
async function damageOf(repository: HostedRepository, reference: { vmFolder: string; backupId: string }): Promise<string | null> {
  try {
    await repository.getBackup(reference)
    return null
  } catch (error) {
    if (error instanceof HoldfastError && ['BACKUP_NOT_FOUND', 'BACKUP_CORRUPT'].includes(error.code)) return error.message
    throw error
  }
}

async function alertBroken(
  catalog: Catalog,
  { id, name }: Pick<BackupRepository, 'id' | 'name'>,
  what: string,
  broken: readonly BrokenLock[],
): Promise<void> {
  await openAlert(catalog, {
    kind: 'immutability_broken',
    subject: id,
    severity: 'critical',
    message: `Repository "${name}": ${what} POST /repositories/${id}/attest looks again; this alert ends when everything holds.`,
    repositoryId: id,
    details: {
      broken_count: broken.length,
      backups: broken.slice(0, NAMED_MAX).map(({ backupId, missing, relocked }) => ({ backup_id: backupId, missing, relocked })),
    },
  })
}

function namesOf(broken: readonly BrokenLock[]): string {
  const named = broken.slice(0, NAMED_MAX).map(({ backupId, missing, relocked }) => {
    const state = relocked ? 'locked again' : 'still not locked'
    return `${backupId} (${missing.join(', ')}; ${state})`
  })
  const more = broken.length > NAMED_MAX ? ` and ${broken.length - NAMED_MAX} more` : ''
  return `${named.join('; ')}${more}.`
}

function chunksOf<T>(items: readonly T[]): T[][] {
  const chunks: T[][] = []
  for (let start = 0; start < items.length; start += CHUNK) chunks.push(items.slice(start, start + CHUNK))
  return chunks
}
