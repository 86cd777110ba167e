/** Removing the files of a backup that was marked for deletion. */
import { loadBackupWork } from '../db/queries/backup-records.ts'
import { locateBackup } from './backup-location.ts'
import { unlockBackup } from './backup-locks.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'

export interface DeletionActivities {
  /**
   * `BACKUP_HAS_DEPENDENTS` when the repository holds a backup on it that the catalog does not know; `IMMUTABLE_RETENTION_ACTIVE` when the
   * record of its lock says so, whatever the catalog does; `REPO_*`. Idempotent.
   */
  deleteBackupFiles(backupId: string): Promise<void>
}

export function createDeletionActivities(dependencies: HostDependencies): DeletionActivities {
  return guarded({
    async deleteBackupFiles(backupId: string): Promise<void> {
      const work = await loadBackupWork(dependencies.catalog, backupId)
      const { repository, reference } = locateBackup(work, dependencies)
      await unlockBackup(dependencies, work)
      await repository.discardBackup(reference)
      await repository.deleteBackup(reference)
    },
  })
}
