/** One backup with its disks and its repository. */
import type { Selectable } from 'kysely'
import type { Catalog } from '../client.ts'
import type { BackupDisksTable } from '../schema.ts'
import type { BackupJob } from './backup-list.ts'
import { findRepository } from './repositories.ts'
import type { BackupRepository } from './repositories.ts'

export type BackupDisk = Selectable<BackupDisksTable>

export interface BackupDetail {
  job: BackupJob
  disks: BackupDisk[]
  repository: BackupRepository
}

export async function findBackup(catalog: Catalog, backupId: string): Promise<BackupJob | undefined> {
  return catalog.selectFrom('backup_jobs').selectAll().where('id', '=', backupId).executeTakeFirst()
}

/** The backup, its disks in order and its repository; `undefined` when there is no such backup. */
export async function findBackupDetail(catalog: Catalog, backupId: string): Promise<BackupDetail | undefined> {
  const [job, disks] = await Promise.all([findBackup(catalog, backupId), disksOfBackup(catalog, backupId)])
  if (!job) return undefined
  const repository = await findRepository(catalog, job.repository_id)
  return repository && { job, disks, repository }
}

export async function disksOfBackup(catalog: Catalog, backupId: string): Promise<BackupDisk[]> {
  return catalog.selectFrom('backup_disks').selectAll().where('backup_job_id', '=', backupId).orderBy('disk_index').execute()
}
