/** The staging folder's life: made, published by one rename, or discarded. */
import { activityInfo } from '@temporalio/activity'
import { loadBackupWork } from '../db/queries/backup-records.ts'
import type { BackupWork } from '../db/queries/backup-records.ts'
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
import { shortlyInRepository, unlessAwayTooOften } from './repository-trouble.ts'
import type { DiskOutcome } from './transfers.ts'

/** With the profile's back-off seven seconds, besides what each answer takes. */
const DISCARD_ATTEMPTS = 4

export interface PublishRequest {
  backupId: string
  snapshot: Snapshot
  disks: DiskOutcome[]
  /** From the workflow's clock, so that a repeated step writes the same manifest. */
  publishedAt: string
}

export interface RecordedPublication {
  toBeLocked: boolean
}

export interface PublicationActivities {
  /** Makes the staging folder, or finds the one that is there. `REPO_*` */
  stageBackup(backupId: string): Promise<void>

  /** Writes the manifest and renames once: from then on the backup exists. Idempotent. `CORRUPT_CHAIN` when the parent is gone. */
  publishBackup(input: PublishRequest): Promise<void>

  /** Brings the catalog to what the published manifest says. Says whether the repository wants the backup locked. Idempotent. */
  recordPublication(backupId: string): Promise<RecordedPublication>

  /**
   * Removes what was staged, after any attempt that might still write there has ended. Never touches what the catalog knows as completed.
   * `REPO_UNAVAILABLE` becomes lasting after a few attempts. Idempotent.
   */
  discardBackup(backupId: string): Promise<void>
}

export function createPublicationActivities(dependencies: HostDependencies): PublicationActivities {
  const { catalog, versions } = dependencies

  return guarded({
    async stageBackup(backupId: string): Promise<void> {
      const location = await locate(backupId)
      await shortlyInRepository(location, () => location.repository.createBackup(location.reference))
    },

    async publishBackup(request: PublishRequest): Promise<void> {
      const work = await loadBackupWork(catalog, request.backupId)
      const location = locateBackup(work, dependencies)
      await shortlyInRepository(location, () => publish(work, location, request))
    },

    async recordPublication(backupId: string): Promise<RecordedPublication> {
      const work = await loadBackupWork(catalog, backupId)
      const { repository, reference } = locateBackup(work, dependencies)
      const { manifest, folder } = await repository.getBackup(reference)
      await recordPublishedBackup(catalog, manifest, { id: repository.id, folder })
      return { toBeLocked: work.repository.is_immutable }
    },

    async discardBackup(backupId: string): Promise<void> {
      const work = await loadBackupWork(catalog, backupId)
      const location = locateBackup(work, dependencies)
      try {
        await discard(work, location)
      } catch (error) {
        // Whoever cancels must not wait for a dead share. Reconcile discards what nobody fills, once it can.
        throw unlessAwayTooOften(error, activityInfo().attempt, DISCARD_ATTEMPTS)
      }
    },
  })

  async function publish(
    work: BackupWork,
    { repository, reference }: BackupLocation,
    { snapshot, disks, publishedAt }: PublishRequest,
  ): Promise<void> {
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
  }

  async function discard({ job, disks }: BackupWork, { repository, reference }: BackupLocation): Promise<void> {
    // Asked before the locks: an attempt that hangs in a dead share holds its lock, and it is the share that is to blame.
    await repository.storage()
    const indexes = disks.map((disk) => disk.disk_index)
    await holdingDisks(job.id, indexes, async () => {
      await repository.discardBackup(reference)
      // A publication may have failed behind its rename. Nobody knows of that backup, and it is not wanted.
      if (job.status !== 'completed') await repository.deleteBackup(reference)
    })
  }

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
