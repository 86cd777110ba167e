/** The newest chain of a VM: its full backup and the incrementals on it, found by walking parents, not by reading every backup. */
import { sql } from 'kysely'
import { CHAIN_LENGTH_MAX } from '../../domain/chain.ts'
import type { BackupDisk } from './backup-detail.ts'
import type { BackupJob } from './backup-list.ts'
import type { Catalog } from '../client.ts'

export interface FoundChain {
  repositoryId: string
  /** Oldest first; the first is the full. Only completed backups: the others are no recovery points. */
  backups: BackupJob[]
  /** Disks of every backup in the chain, by backup id. */
  disks: Map<string, BackupDisk[]>
}

/** A chain longer than the rules allow is walked no further than this: a loop in the data must not become a loop in the server. */
const walkMax = CHAIN_LENGTH_MAX * 4

/** The chain that the newest completed backup belongs to, in one repository or in whichever holds the newest. */
export async function findNewestChain(
  catalog: Catalog,
  vmContextId: string,
  repositoryId?: string,
): Promise<FoundChain | undefined> {
  const newest = await catalog
    .selectFrom('backup_jobs')
    .select(['id', 'repository_id'])
    .where('vm_context_id', '=', vmContextId)
    .where('status', '=', 'completed')
    .$if(repositoryId !== undefined, (query) => query.where('repository_id', '=', repositoryId!))
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst()
  if (!newest) return undefined
  const rootId = await rootOf(catalog, newest.id)
  const backups = await descendantsOf(catalog, rootId)
  return { repositoryId: newest.repository_id, backups, disks: await disksOfBackups(catalog, backups) }
}

/** The oldest ancestor the catalog knows: the full, unless the chain is broken. */
async function rootOf(catalog: Catalog, backupId: string): Promise<string> {
  const { rows } = await sql<{ id: string }>`
    WITH RECURSIVE ancestors (id, parent_backup_id, depth) AS (
      SELECT id, parent_backup_id, 0 FROM backup_jobs WHERE id = ${backupId}
      UNION ALL
      SELECT parent.id, parent.parent_backup_id, ancestors.depth + 1
      FROM ancestors JOIN backup_jobs parent ON parent.id = ancestors.parent_backup_id
      WHERE ancestors.depth < ${walkMax}
    )
    SELECT id FROM ancestors ORDER BY depth DESC LIMIT 1`.execute(catalog)
  return rows[0]?.id ?? backupId
}

/** Completed backups reachable from the root through completed backups; every backup stands after its parent, whatever the clocks said. */
async function descendantsOf(catalog: Catalog, rootId: string): Promise<BackupJob[]> {
  const { rows } = await sql<{ id: string; depth: number }>`
    WITH RECURSIVE descendants (id, depth) AS (
      SELECT id, 0 FROM backup_jobs WHERE id = ${rootId}
      UNION ALL
      SELECT child.id, descendants.depth + 1
      FROM descendants JOIN backup_jobs child ON child.parent_backup_id = descendants.id AND child.status = 'completed'
      WHERE descendants.depth < ${walkMax}
    )
    SELECT id, depth FROM descendants`.execute(catalog)
  const depths = new Map(rows.map((row) => [row.id, row.depth]))
  const backups = await catalog
    .selectFrom('backup_jobs')
    .selectAll()
    .where('id', 'in', [...depths.keys()])
    .where('status', '=', 'completed')
    .orderBy('created_at')
    .orderBy('id')
    .execute()
  return backups.sort((one, other) => (depths.get(one.id) ?? 0) - (depths.get(other.id) ?? 0))
}

async function disksOfBackups(catalog: Catalog, backups: readonly BackupJob[]): Promise<Map<string, BackupDisk[]>> {
  const byBackup = new Map<string, BackupDisk[]>(backups.map((backup) => [backup.id, []]))
  if (backups.length === 0) return byBackup
  const rows = await catalog
    .selectFrom('backup_disks')
    .selectAll()
    .where('backup_job_id', 'in', [...byBackup.keys()])
    .orderBy('disk_index')
    .execute()
  for (const row of rows) byBackup.get(row.backup_job_id)?.push(row)
  return byBackup
}
