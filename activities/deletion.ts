/** Removing the files of a backup that was marked for deletion. */
import { loadBackupWork } from '../db/queries/backup-records.ts'
import { locateBackup } from './backup-location.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'

export interface DeletionActivities {
  /** `BACKUP_HAS_DEPENDENTS` when the repository holds a backup on it that the catalog does not know; `REPO_*`. Idempotent. */
  deleteBackupFiles(backupId: string): Promise<void>
}

export function createDeletionActivities(dependencies: HostDependencies): DeletionActivities {
  return guarded({
    async deleteBackupFiles(backupId: string): Promise<void> {
      const { repository, reference } = locateBackup(await loadBackupWork(dependencies.catalog, backupId), dependencies)
      await repository.discardBackup(reference)
      await repository.deleteBackup(reference)
    },
  })
}
