/** Writing repositories: recording, changing and forgetting them. Every statement may run twice. */
import { isDeepStrictEqual } from 'node:util'
import type { Transaction, Updateable } from 'kysely'
import { HoldfastError } from '../../domain/errors.ts'
import type { JsonObject } from '../../domain/errors.ts'
import type { Enforcement } from '../../domain/immutability.ts'
import { isShareType } from '../../domain/repository-place.ts'
import type { RepositorySettings } from '../../domain/repository-settings.ts'
import { DEFAULT_THRESHOLDS } from '../../domain/storage-health.ts'
import type { StorageInfo } from '../../domain/storage.ts'
import type { Catalog } from '../client.ts'
import { isDuplicateKey } from '../driver-errors.ts'
import type { BackupRepositoriesTable, Database } from '../schema.ts'
import { resolveAlert } from './alerts.ts'
import { deleteCredentials } from './credentials.ts'
import { findRepository, repositoryNotFound } from './repositories.ts'
import type { BackupRepository } from './repositories.ts'
import { judgeAgain, spaceColumns, thresholdsOfRow } from './repository-health.ts'
import { nameTaken } from './repository-conflicts.ts'
import type { WantedRepository } from './repository-conflicts.ts'
import { checkRepositoryUnused, countBackupsIn, pinsIn } from './repository-uses.ts'

export interface NewRepository extends WantedRepository {
  credentialsId?: string | null
  settings?: Partial<RepositorySettings>
}

/** What a look at its place found. */
export interface FoundPlace {
  storage: StorageInfo
  /** `null`: not tried. */
  enforcement: Enforcement | null
}

/** What is not given stays. */
export interface RepositoryChange {
  name?: string
  settings?: Partial<RepositorySettings>
  place?: { config: JsonObject; credentialsId: string | null }
  enforcement?: Enforcement | null
}

/** Records the repository and what was found there. `REPO_EXISTS` when the name was taken meanwhile. Idempotent by id. */
export async function insertRepository(catalog: Catalog, repository: NewRepository, found: FoundPlace): Promise<void> {
  if (await findRepository(catalog, repository.repositoryId)) return
  const { repositoryId, name, type, hostId, config, credentialsId = null, settings = {} } = repository
  await refusingNamesakes(() =>
    catalog
      .insertInto('backup_repositories')
      .values({
        id: repositoryId,
        name,
        repository_type: type,
        config: JSON.stringify(config),
        credentials_id: credentialsId,
        host_id: hostId,
        ...settingsColumns(settings),
        ...enforcementColumns(found.enforcement),
        ...spaceColumns(found.storage),
        last_check_at: new Date(),
      })
      .execute(),
  )
}

/**
 * Credentials that a new place makes superfluous are forgotten with the old one. `REPO_NOT_FOUND`, `REPO_EXISTS`; for a new place `REPO_IN_USE`: a backup
 * that began since it was last asked would go on in another folder than it began in.
 */
export async function updateRepository(catalog: Catalog, repositoryId: string, change: RepositoryChange): Promise<void> {
  const { name, settings = {}, place, enforcement } = change
  await refusingNamesakes(() =>
    catalog.transaction().execute(async (transaction) => {
      const before = await lockRepository(transaction, repositoryId)
      if (!before) throw repositoryNotFound(repositoryId)
      // Locked: no backup is recorded in it until this is done. Said twice, the second time changes nothing that anybody uses.
      if (place && !isAlready(before, place)) await checkRepositoryUnused(transaction, repositoryId)
      const columns: Updateable<BackupRepositoriesTable> = {
        ...(name !== undefined && { name }),
        ...settingsColumns(settings),
        ...enforcementColumns(enforcement ?? null),
        ...(place && { config: JSON.stringify(place.config), credentials_id: place.credentialsId }),
      }
      if (Object.keys(columns).length === 0) return
      await transaction.updateTable('backup_repositories').set(columns).where('id', '=', repositoryId).execute()
      if (place) await deleteCredentials(transaction, before.credentials_id)
      await settleHealth(transaction, repositoryId, before, settings)
    }),
  )
}

async function settleHealth(
  transaction: Transaction<Database>,
  repositoryId: string,
  before: LockedRepository,
  { enabled = before.enabled, thresholds }: Partial<RepositorySettings>,
): Promise<void> {
  // Nobody looks at a share that is switched off: its alert would stay for ever, and what was known of it says less every day.
  if (enabled !== before.enabled && isShareType(before.repository_type)) {
    if (!enabled) await resolveAlert(transaction, 'repository_offline', repositoryId)
    const unknown = { health: 'unknown', health_message: null, health_since: new Date() } as const
    await transaction.updateTable('backup_repositories').set(unknown).where('id', '=', repositoryId).execute()
  }
  if (thresholds === undefined) return
  const [was, now] = [thresholdsOfRow(before), thresholds ?? DEFAULT_THRESHOLDS]
  if (was.warningPercent !== now.warningPercent || was.criticalPercent !== now.criticalPercent) {
    await judgeAgain(transaction, repositoryId)
  }
}

/**
 * Forgets a repository, with the rows of backups that failed or were cancelled, its samples and its alerts. Its credentials stay: they are needed to clear
 * its place. `REPO_IN_USE` (with `backup_count`) while it has a backup. Nothing when it is gone.
 */
export async function deleteRepository(catalog: Catalog, repositoryId: string): Promise<void> {
  await catalog.transaction().execute(async (transaction) => {
    // Locked, so that no backup is recorded in it until it is gone: its row would refer to this one.
    if (!(await lockRepository(transaction, repositoryId))) return
    await checkDeletable(transaction, repositoryId)
    await transaction.deleteFrom('backup_chains').where('repository_id', '=', repositoryId).execute()
    await transaction
      .updateTable('backup_jobs')
      .set({ parent_backup_id: null })
      .where('repository_id', '=', repositoryId)
      .execute()
    await transaction.deleteFrom('backup_jobs').where('repository_id', '=', repositoryId).execute()
    await transaction.deleteFrom('backup_repositories').where('id', '=', repositoryId).execute()
  })
}

/** `REPO_IN_USE` */
export async function checkDeletable(catalog: Catalog, repositoryId: string): Promise<void> {
  const backups = await countBackupsIn(catalog, repositoryId)
  if (backups > 0) {
    const what = `${backups} existing ${backups === 1 ? 'backup' : 'backups'}`
    throw new HoldfastError('REPO_IN_USE', `cannot delete repository with ${what}`, {
      details: { repository_id: repositoryId, backup_count: backups },
    })
  }
  const pins = await pinsIn(catalog, repositoryId)
  if (pins.length === 0) return
  throw new HoldfastError('REPO_IN_USE', 'Something that failed or was cancelled there is being cleaned up: try again shortly.', {
    details: { repository_id: repositoryId, backup_count: 0, pinned_by: pins.map((pin) => pin.owner_workflow_id) },
  })
}

type LockedRepository = Pick<
  BackupRepository,
  'repository_type' | 'enabled' | 'config' | 'credentials_id' | 'warning_percent' | 'critical_percent'
>

function isAlready(before: LockedRepository, { config, credentialsId }: NonNullable<RepositoryChange['place']>): boolean {
  return before.credentials_id === credentialsId && isDeepStrictEqual(before.config, config)
}

async function lockRepository(transaction: Transaction<Database>, repositoryId: string): Promise<LockedRepository | undefined> {
  return transaction
    .selectFrom('backup_repositories')
    .select(['repository_type', 'enabled', 'config', 'credentials_id', 'warning_percent', 'critical_percent'])
    .where('id', '=', repositoryId)
    .forUpdate()
    .executeTakeFirst()
}

function settingsColumns({ enabled, autoMount, thresholds, immutability, minRetentionDays }: Partial<RepositorySettings>) {
  return {
    ...(enabled !== undefined && { enabled }),
    ...(autoMount !== undefined && { auto_mount: autoMount }),
    ...(thresholds !== undefined && {
      warning_percent: thresholds?.warningPercent ?? null,
      critical_percent: thresholds?.criticalPercent ?? null,
    }),
    ...(immutability !== undefined && {
      is_immutable: immutability !== null,
      immutable_method: immutability?.method ?? null,
      retention_period_days: immutability?.retentionPeriodDays ?? null,
    }),
    ...(minRetentionDays !== undefined && { min_retention_days: minRetentionDays }),
  }
}

function enforcementColumns(enforcement: Enforcement | null) {
  return enforcement && { enforced_by: enforcement.enforcedBy, enforcement_reason: enforcement.reason }
}

async function refusingNamesakes(write: () => Promise<unknown>): Promise<void> {
  try {
    await write()
  } catch (error) {
    if (isDuplicateKey(error, 'unique_name')) throw nameTaken({ id: null })
    throw error
  }
}
