/** Where a backup of the catalog lies, as adapters see it. */
import { vmFolderName } from '../domain/ids.ts'
import type { BackupWork } from '../db/queries/backup-records.ts'
import type { BackupReference, Repository } from '../repositories/repository.ts'
import type { HostDependencies } from './host-dependencies.ts'

export interface BackupLocation {
  repository: Repository
  reference: BackupReference
}

/** The VM's folder is named when its first backup is recorded and kept in each backup's row, so renaming a VM moves nothing. */
export function locateBackup(
  { job, repository }: BackupWork,
  { createRepository }: Pick<HostDependencies, 'createRepository'>,
): BackupLocation {
  const { id, repository_type: type, config } = repository
  return {
    repository: createRepository({ id, type, config }),
    reference: { vmFolder: vmFolderOf(job.repository_path), backupId: job.id },
  }
}

/** `vms/<vm folder>/<backup id>`, relative to the repository's root. */
export function repositoryPathOf(vmName: string, vmContextId: string, backupId: string): string {
  return `vms/${vmFolderName(vmName, vmContextId)}/${backupId}`
}

function vmFolderOf(repositoryPath: string): string {
  return repositoryPath.split('/')[1] ?? ''
}
