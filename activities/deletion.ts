/** Removing the files of a backup that was marked for deletion. */
import { loadBackupWork } from '../db/queries/backup-records.ts'
import { HoldfastError } from '../domain/errors.ts'
import { locateBackup } from './backup-location.ts'
import { unlockBackup } from './backup-locks.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'

export interface DeletionActivities {
  /**
   * `BACKUP_HAS_DEPENDENTS` when the repository holds a backup on it that the catalog does not know; `IMMUTABLE_RETENTION_ACTIVE` when the
   * record of its lock says so, whatever the catalog does; `REPO_*`. What is refused has lost no file. Idempotent.
   */
  deleteBackupFiles(backupId: string): Promise<void>
}

export function createDeletionActivities(dependencies: HostDependencies): DeletionActivities {
  return guarded({
    async deleteBackupFiles(backupId: string): Promise<void> {
      const work = await loadBackupWork(dependencies.catalog, backupId)
      const { repository, reference } = locateBackup(work, dependencies)
      // Elsewhere a locker is not asked for nothing.
      if (work.repository.is_immutable || work.job.locked_until !== null) await unlockBackup(dependencies, work)
      await repository.discardBackup(reference)
      try {
        await repository.deleteBackup(reference)
      } catch (error) {
        // Of a lock that the catalog does not know: the locker that set it died before it could say so. What it is worth, only a locker can tell.
        if (!isLocked(error)) throw error
        await unlockBackup(dependencies, work)
        await repository.deleteBackup(reference)
      }
    },
  })
}

function isLocked(error: unknown): boolean {
  if (!(error instanceof HoldfastError)) return false
  return error.code === 'IMMUTABLE_RETENTION_ACTIVE' || (error.code === 'REPO_INVALID' && error.details['reason'] === 'immutable')
}
