/** Until when backups are locked, as the catalog knows it: for people, and for refusing early. The records beside the files decide. */
import type { Selectable, Transaction } from 'kysely'
import { sql } from 'kysely'
import { HoldfastError } from '../../domain/errors.ts'
import { retainedUntil } from '../../domain/immutability.ts'
import type { RetainedBackup, RetentionRules } from '../../domain/immutability.ts'
import type { Catalog } from '../client.ts'
import type { BackupJobsTable, BackupRepositoriesTable, Database } from '../schema.ts'

export interface LockableBackup extends RetainedBackup {
  /** `vms/<vm folder>/<backup id>` */
  repositoryPath: string
}

type RulesRow = Pick<Selectable<BackupRepositoriesTable>, 'is_immutable' | 'retention_period_days' | 'min_retention_days'>

export function retentionRules(row: RulesRow): RetentionRules {
  return {
    isImmutable: row.is_immutable,
    retentionPeriodDays: row.retention_period_days,
    minRetentionDays: row.min_retention_days,
  }
}

/** Completed backups of a repository, of one VM or of all. */
export async function listLockable(catalog: Catalog, repositoryId: string, vmContextId?: string): Promise<LockableBackup[]> {
  const rows = await catalog
    .selectFrom('backup_jobs')
    .select(['id', 'parent_backup_id', 'completed_at', 'created_at', 'locked_until', 'repository_path'])
    .where('repository_id', '=', repositoryId)
    .where('status', '=', 'completed')
    .$if(vmContextId !== undefined, (query) => query.where('vm_context_id', '=', vmContextId!))
    .execute()
  return rows.map((row) => ({
    id: row.id,
    parentBackupId: row.parent_backup_id,
    publishedAt: row.completed_at ?? row.created_at,
    lockedUntil: row.locked_until,
    repositoryPath: row.repository_path,
  }))
}

/** Notes ends, all or none; one that is nearer than the known one changes nothing. */
export async function recordLocks(catalog: Catalog, locks: readonly { backupId: string; until: Date }[]): Promise<void> {
  await catalog.transaction().execute(async (transaction) => {
    for (const { backupId, until } of locks) {
      await transaction
        .updateTable('backup_jobs')
        .set({ locked_until: sql<Date>`greatest(coalesce(locked_until, ${until}), ${until})` })
        .where('id', '=', backupId)
        .execute()
    }
  })
}

/** Repositories in which something is locked, or is to be. */
export async function repositoriesWithLocks(
  catalog: Catalog,
  now: Date,
): Promise<{ id: string; name: string; hostId: string }[]> {
  return catalog
    .selectFrom('backup_repositories')
    .select(['id', 'name', 'host_id as hostId'])
    .where((repository) =>
      repository.or([
        repository('is_immutable', '=', true),
        repository.exists(
          repository
            .selectFrom('backup_jobs')
            .select('backup_jobs.id')
            .whereRef('backup_jobs.repository_id', '=', 'backup_repositories.id')
            .where('backup_jobs.locked_until', '>', now),
        ),
      ]),
    )
    .orderBy('id')
    .execute()
}

/** The locks of a repository were seen to hold. */
export async function recordAttestation(catalog: Catalog, repositoryId: string, at: Date): Promise<void> {
  await catalog.updateTable('backup_repositories').set({ attested_at: at }).where('id', '=', repositoryId).execute()
}

/** `IMMUTABLE_RETENTION_ACTIVE` while a completed backup is locked or younger than its repository keeps every backup. */
export async function refuseRetained(transaction: Transaction<Database>, job: Selectable<BackupJobsTable>): Promise<void> {
  if (job.status !== 'completed') return
  const rules = await transaction
    .selectFrom('backup_repositories')
    .select(['is_immutable', 'retention_period_days', 'min_retention_days'])
    .where('id', '=', job.repository_id)
    .executeTakeFirstOrThrow()
  const backup = { publishedAt: job.completed_at ?? job.created_at, lockedUntil: job.locked_until }
  const until = retainedUntil(backup, retentionRules(rules), new Date())
  if (until === null) return
  throw new HoldfastError(
    'IMMUTABLE_RETENTION_ACTIVE',
    `Backup ${job.id} cannot be deleted before ${until.toISOString()}: its repository keeps it until then, whoever asks.`,
    { details: { backup_id: job.id, retention_expires_at: until.toISOString() } },
  )
}
