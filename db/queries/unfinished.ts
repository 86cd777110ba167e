/** What the catalog believes is still going on, for the reconcile pass. */
import type { Selectable } from 'kysely'
import type { BackupState } from '../../domain/backup.ts'
import type { Catalog } from '../client.ts'
import type { BackupRepositoriesTable } from '../schema.ts'
import { DELETION_MARK } from './pins.ts'

export interface UnfinishedWork {
  kind: 'backup' | 'restore' | 'deletion' | 'mount'
  /** Of the backup, the restore or the mount. */
  id: string
  backupId: string
  hostId: string
  repositoryId: string
  workflowId: string
  /** Of a deletion: when its mark was set; of a mount: when it began. */
  markedAt?: Date
}

/** Every unfinished backup, restore and deletion, every mount, and the hosts that have a repository or a source. */
export async function listUnfinished(catalog: Catalog): Promise<{ unfinished: UnfinishedWork[]; hostIds: string[] }> {
  const [backups, restores, deletions, mounts, repositoryHosts, sourceHosts] = await Promise.all([
    unfinishedBackups(catalog),
    unfinishedRestores(catalog),
    unfinishedDeletions(catalog),
    everyMount(catalog),
    catalog.selectFrom('backup_repositories').select('host_id').distinct().execute(),
    catalog.selectFrom('sources').select('host_id').distinct().execute(),
  ])
  const unfinished = [
    ...backups.map((row): UnfinishedWork => ({ kind: 'backup', backupId: row.id, ...row })),
    ...restores.map((row): UnfinishedWork => ({ kind: 'restore', ...row })),
    ...deletions.map((row): UnfinishedWork => ({ kind: 'deletion', backupId: row.id, ...row })),
    ...mounts.map((row): UnfinishedWork => ({ kind: 'mount', ...row })),
  ]
  const hostIds = [...new Set([...repositoryHosts, ...sourceHosts].map((row) => row.host_id))]
  return { unfinished, hostIds }
}

/** State of every backup that the catalog knows in a repository, by id. */
export async function knownBackups(catalog: Catalog, repositoryId: string): Promise<Map<string, BackupState>> {
  const rows = await catalog
    .selectFrom('backup_jobs')
    .select(['id', 'status'])
    .where('repository_id', '=', repositoryId)
    .execute()
  return new Map(rows.map((row) => [row.id, row.status]))
}

/** State of every backup of a source's VMs, by id. */
export async function backupsOfSource(catalog: Catalog, sourceId: string): Promise<Map<string, BackupState>> {
  const rows = await catalog
    .selectFrom('vm_contexts')
    .innerJoin('backup_jobs', 'backup_jobs.vm_context_id', 'vm_contexts.context_id')
    .select(['backup_jobs.id', 'backup_jobs.status'])
    .where('vm_contexts.source_id', '=', sourceId)
    .execute()
  return new Map(rows.map((row) => [row.id, row.status]))
}

export async function repositoriesOfHost(catalog: Catalog, hostId: string): Promise<Selectable<BackupRepositoriesTable>[]> {
  return catalog.selectFrom('backup_repositories').selectAll().where('host_id', '=', hostId).execute()
}

function unfinishedBackups(catalog: Catalog) {
  return catalog
    .selectFrom('backup_jobs')
    .innerJoin('backup_repositories', 'backup_repositories.id', 'backup_jobs.repository_id')
    .select([
      'backup_jobs.id',
      'backup_jobs.workflow_id as workflowId',
      'backup_repositories.host_id as hostId',
      'backup_repositories.id as repositoryId',
    ])
    .where('backup_jobs.status', 'in', ['pending', 'running'])
    .execute()
}

/** A restore whose backup is gone has no host any more; its row is found again when somebody looks for it. */
function unfinishedRestores(catalog: Catalog) {
  return (
    catalog
      .selectFrom('restore_jobs')
      .innerJoin('backup_jobs', 'backup_jobs.id', 'restore_jobs.backup_id')
      .innerJoin('backup_repositories', 'backup_repositories.id', 'backup_jobs.repository_id')
      .select([
        'restore_jobs.id',
        'restore_jobs.backup_id as backupId',
        'restore_jobs.workflow_id as workflowId',
        'backup_repositories.host_id as hostId',
        'backup_repositories.id as repositoryId',
      ])
      .where('restore_jobs.status', 'in', ['pending', 'running'])
      // The disks of a VM restore are settled with it.
      .where('restore_jobs.parent_restore_id', 'is', null)
      .execute()
  )
}

function unfinishedDeletions(catalog: Catalog) {
  return catalog
    .selectFrom('backup_pins')
    .innerJoin('backup_jobs', 'backup_jobs.id', 'backup_pins.backup_id')
    .innerJoin('backup_repositories', 'backup_repositories.id', 'backup_jobs.repository_id')
    .select([
      'backup_jobs.id',
      'backup_pins.owner_workflow_id as workflowId',
      'backup_pins.created_at as markedAt',
      'backup_repositories.host_id as hostId',
      'backup_repositories.id as repositoryId',
    ])
    .where('backup_pins.reason', '=', DELETION_MARK)
    .execute()
}

/** The row of a mount exists only as long as its workflow has work to do. */
function everyMount(catalog: Catalog) {
  return catalog
    .selectFrom('restore_mounts')
    .innerJoin('backup_jobs', 'backup_jobs.id', 'restore_mounts.backup_id')
    .select([
      'restore_mounts.id',
      'restore_mounts.backup_id as backupId',
      'restore_mounts.host_id as hostId',
      'restore_mounts.workflow_id as workflowId',
      'restore_mounts.created_at as markedAt',
      'backup_jobs.repository_id as repositoryId',
    ])
    .execute()
}
