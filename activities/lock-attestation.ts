/** Seeing whether the locks of a repository still hold, and saying when they do not. */
import type { Catalog } from '../db/client.ts'
import { openAlert, resolveAlert } from '../db/queries/alerts.ts'
import { listLockable, recordAttestation, repositoriesWithLocks, retentionRules } from '../db/queries/backup-locks.ts'
import { loadBackupWork } from '../db/queries/backup-records.ts'
import { findRepository } from '../db/queries/repositories.ts'
import type { BackupRepository } from '../db/queries/repositories.ts'
import { HoldfastError } from '../domain/errors.ts'
import { lockEnds } from '../domain/immutability.ts'
import type { Attestation, BrokenLock } from '../domain/immutability.ts'
import type { HostedRepository } from '../hosting/hosted-repository.ts'
import type { RepositoryOfHost } from '../temporal/operations.ts'
import { repositoryRecord } from './backup-location.ts'
import { CHUNK_DEADLINE_MS, chunksOf, lockAll, lockOf } from './backup-locks.ts'
import type { Lock, LockingDependencies } from './backup-locks.ts'
import { guarded } from './failure.ts'

/** Named in an alert; the rest is counted. */
const NAMED_MAX = 10

export interface LockAttestationActivities {
  /**
   * Looks at every lock of the repository, locks again what should be and is not, and opens or resolves the alert. A backup that nobody
   * had locked yet is locked without one. `REPO_*`, `LOCK_FAILED`. Idempotent.
   */
  attestLocks(repositoryId: string): Promise<Attestation>
}

/** Steps of a data host. */
export function createLockAttestationActivities(dependencies: LockingDependencies): LockAttestationActivities {
  const { catalog } = dependencies
  return guarded({
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

async function attestRepository(dependencies: LockingDependencies, row: BackupRepository): Promise<Attestation> {
  const { catalog, repositories } = dependencies
  const now = new Date()
  const backups = await listLockable(catalog, row.id)
  const ends = lockEnds(backups, retentionRules(row), now)
  const locks = backups.flatMap((backup) => lockOf(backup, ends))
  const promised = new Map(
    backups.flatMap(({ id, lockedUntil }) =>
      lockedUntil !== null && lockedUntil > now ? [[id, lockedUntil.toISOString()]] : [],
    ),
  )
  const repository = repositories.open(repositoryRecord(row))

  // Stricter rules ask for more than was promised: that it is not there yet is nobody's doing.
  const asPromised = locks.map((lock) => ({ ...lock, until: promised.get(lock.backupId) ?? lock.until }))
  const missing = await missingOf(dependencies, repository, asPromised)
  const due = locks.filter(({ backupId, until }) => missing.has(backupId) || promised.get(backupId) !== until)
  const failures = new Map((await lockAll(dependencies, row, due)).map(({ backupId, reason }) => [backupId, reason]))
  const still = await missingOf(dependencies, repository, due)

  const broken = due.flatMap(({ backupId }): BrokenLock[] => {
    const failure = failures.get(backupId)
    const isBroken = still.has(backupId) || (missing.has(backupId) && promised.has(backupId))
    if (!isBroken) return []
    const what = missing.get(backupId) ?? still.get(backupId) ?? []
    const why = failure === undefined ? [] : [`it could not be locked: ${failure}`]
    return [{ backupId, missing: [...what, ...why], relocked: !still.has(backupId) }]
  })
  if (broken.length > 0) {
    const isSomebodysDoing = broken.some(({ backupId }) => missing.has(backupId) && promised.has(backupId))
    await alertNotLocked(catalog, row, { checked: locks.length, broken }, isSomebodysDoing)
  } else {
    await recordAttestation(catalog, row.id, new Date())
    await resolveAlert(catalog, 'immutability_broken', row.id)
  }
  return { checked: locks.length, broken }
}

async function alertNotLocked(
  catalog: Catalog,
  row: BackupRepository,
  { checked, broken }: Attestation,
  isSomebodysDoing: boolean,
): Promise<void> {
  const advice = isSomebodysDoing ? 'Find out who did this.' : 'Remove what keeps them from being locked.'
  const what = `of ${checked} locked backups, ${broken.length} were not: ${namesOf(broken)} ${advice}`
  await alertBroken(catalog, row, what, broken)
}

/** What of each lock is not there, by backup; those that hold are left out. */
async function missingOf(
  { locker }: LockingDependencies,
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
