/** The staging folder's life: made, published by one rename, or discarded. */
import { loadBackupWork } from '../db/queries/backup-records.ts'
import { recordPublishedBackup } from '../db/queries/publication-records.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { Manifest } from '../domain/manifest.ts'
import type { BackupReference, Repository } from '../repositories/repository.ts'
import type { Snapshot } from '../sources/source.ts'
import { holdingDisks } from './attempt-lock.ts'
import { locateBackup } from './backup-location.ts'
import type { BackupLocation } from './backup-location.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'
import { buildManifest } from './manifest-builder.ts'
import type { DiskOutcome } from './transfers.ts'

export interface PublishRequest {
  backupId: string
  snapshot: Snapshot
  disks: DiskOutcome[]
  /** From the workflow's clock, so that a repeated step writes the same manifest. */
  publishedAt: string
}

export interface PublicationActivities {
  /** Makes the staging folder, or finds the one that is there. `REPO_*` */
  stageBackup(backupId: string): Promise<void>

  /** Writes the manifest and renames once: from then on the backup exists. Idempotent. `CORRUPT_CHAIN` when the parent is gone. */
  publishBackup(input: PublishRequest): Promise<void>

  /** Brings the catalog to what the published manifest says. Idempotent. */
  recordPublication(backupId: string): Promise<void>

  /** Removes what was staged, after any attempt that might still write there has ended. Never touches what is published. Idempotent. */
  discardBackup(backupId: string): Promise<void>
}

export function createPublicationActivities(dependencies: HostDependencies): PublicationActivities {
  const { catalog, versions } = dependencies

  return guarded({
    async stageBackup(backupId: string): Promise<void> {
      const { repository, reference } = await locate(backupId)
      await repository.createBackup(reference)
    },

    async publishBackup({ backupId, snapshot, disks, publishedAt }: PublishRequest): Promise<void> {
      const work = await loadBackupWork(catalog, backupId)
      const { repository, reference } = locateBackup(work, dependencies)
      // Published before a crash: the repository confirms that very manifest and makes the rename durable.
      const published = await publishedManifest(repository, reference)
      if (published) {
        await repository.publishBackup(reference, published)
        return
      }
      const parentId = work.job.parent_backup_id
      const parent = parentId === null ? null : (await repository.getBackup({ ...reference, backupId: parentId })).manifest
      const manifest = buildManifest({ work, snapshot, outcomes: disks, parent, publishedAt, versions })
      await repository.publishBackup(reference, manifest)
    },

    async recordPublication(backupId: string): Promise<void> {
      const { repository, reference } = await locate(backupId)
      const { manifest, folder } = await repository.getBackup(reference)
      await recordPublishedBackup(catalog, manifest, { id: repository.id, folder })
    },

    async discardBackup(backupId: string): Promise<void> {
      const work = await loadBackupWork(catalog, backupId)
      const { repository, reference } = locateBackup(work, dependencies)
      const indexes = work.disks.map((disk) => disk.disk_index)
      await holdingDisks(backupId, indexes, () => repository.discardBackup(reference))
    },
  })

  async function locate(backupId: string): Promise<BackupLocation> {
    return locateBackup(await loadBackupWork(catalog, backupId), dependencies)
  }
}

/** The manifest, if the rename has happened; otherwise `null`. */
export async function publishedManifest(repository: Repository, reference: BackupReference): Promise<Manifest | null> {
  try {
    return (await repository.getBackup(reference)).manifest
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'BACKUP_NOT_FOUND') return null
    throw error
  }
}
