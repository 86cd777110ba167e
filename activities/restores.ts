/** Restoring a disk to a new file. */
import { activityInfo, cancellationSignal } from '@temporalio/activity'
import type { Catalog } from '../db/client.ts'
import { loadBackupWork } from '../db/queries/backup-records.ts'
import { endRestore, insertRestore, loadRestore } from '../db/queries/restore-records.ts'
import type { RestoreEnd } from '../db/queries/restore-records.ts'
import { repositoriesOfHost } from '../db/queries/unfinished.ts'
import { HoldfastError } from '../domain/errors.ts'
import { placeOf } from '../hosting/hanging-file-systems.ts'
import type { RestoreDiskRequest } from '../temporal/operations.ts'
import { holdingRestore, holdingTarget } from './attempt-lock.ts'
import { locateBackup, repositoryRecord } from './backup-location.ts'
import { diskOf, linksOfDisk, loadChain } from './chain-links.ts'
import { guarded, guardedResumable } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'
import { resumable } from './resumable.ts'
import type { Position } from './resumable.ts'
import { withRunFolder } from './run-folders.ts'

export interface RestoredDisk {
  restoreId: string
  targetPath: string
  restoredBytes: number
}

export interface RestoreRecordActivities {
  /** Notes a restore whose target has been checked, as `running`. `DISK_NOT_FOUND`, `RESTORE_TARGET_EXISTS`. Idempotent. */
  recordRestore(request: RestoreDiskRequest & { workflowId: string }): Promise<void>

  /** A restore that has ended keeps the end it has; one that was refused has no row. Idempotent. */
  recordRestoreEnd(end: RestoreEnd): Promise<void>
}

/** Steps of the control worker. */
export function createRestoreRecordActivities({ catalog }: { catalog: Catalog }): RestoreRecordActivities {
  return guarded({
    async recordRestore(request: RestoreDiskRequest & { workflowId: string }): Promise<void> {
      const { job, disks } = await loadBackupWork(catalog, request.backupId)
      const disk = disks.find((candidate) => candidate.disk_index === request.diskIndex)
      if (!disk) throw new HoldfastError('DISK_NOT_FOUND', `Backup ${job.id} has no disk ${request.diskIndex}.`)
      await insertRestore(catalog, { ...request, vmName: job.vm_name, totalBytes: disk.size_bytes })
    },

    async recordRestoreEnd(end: RestoreEnd): Promise<void> {
      await endRestore(catalog, end)
    },
  })
}

export interface RestoreActivities {
  /** `RESTORE_TARGET_INVALID`, `RESTORE_TARGET_EXISTS`. Changes nothing. */
  checkRestoreTarget(input: RestoreDiskRequest): Promise<void>

  /** Removes what an unfinished restore wrote. A restore that was never recorded wrote nothing. Idempotent. */
  discardRestore(restoreId: string): Promise<void>

  /** Writes the disk, or goes on where an earlier attempt stopped. Every block is compared with its birth hash on the way. */
  restoreDisk(restoreId: string): Promise<RestoredDisk>
}

/** Steps of a data host. */
export function createRestoreActivities(dependencies: HostDependencies): RestoreActivities {
  const { catalog, repositories } = dependencies
  const short = guarded({
    async checkRestoreTarget({ targetPath, restoreId }: RestoreDiskRequest): Promise<void> {
      await repositories.targets.checkRestoreTarget(targetPath, restoreId, await repositoryRoots(dependencies))
    },

    async discardRestore(restoreId: string): Promise<void> {
      const { target_path: targetPath } = await loadRestore(catalog, restoreId)
      await holdingRestore(restoreId, () => repositories.targets.discardRestore(targetPath, restoreId))
    },
  })
  const long = guardedResumable({
    async restoreDisk(restoreId: string): Promise<RestoredDisk> {
      return resumable((position) =>
        holdingRestore(restoreId, () => restoreOnce(dependencies, restoreId, position), { signal: cancellationSignal() }),
      )
    },
  })
  return { ...short, ...long }
}

/** Where nothing but backups may lie: absolute, without links. None of them is touched, because one may hang. */
export async function repositoryRoots({
  catalog,
  repositories,
  hostId,
}: Pick<HostDependencies, 'catalog' | 'repositories' | 'hostId'>): Promise<string[]> {
  const rows = await repositoriesOfHost(catalog, hostId)
  return Promise.all(rows.map(async (row) => (await placeOf(repositories.open(repositoryRecord(row)).root)).path))
}

async function restoreOnce(dependencies: HostDependencies, restoreId: string, position: Position): Promise<RestoredDisk> {
  const restore = await loadRestore(dependencies.catalog, restoreId)
  return holdingTarget(restore.target_path, () => writeTarget(dependencies, restore, position), { signal: cancellationSignal() })
}

async function writeTarget(
  dependencies: HostDependencies,
  restore: Awaited<ReturnType<typeof loadRestore>>,
  position: Position,
): Promise<RestoredDisk> {
  const { catalog, runFolder: parentFolder, checkpointIntervalMs, checkpointIntervalBytes } = dependencies
  const restoreId = restore.id
  const { repository, reference } = locateBackup(await loadBackupWork(catalog, restore.backup_id), dependencies)
  const chain = await loadChain(repository, reference)
  const links = linksOfDisk(chain, diskOf(chain.newest, restore.disk_index))
  const { target_path: targetPath, target_format: targetFormat } = restore
  const { restoredBytes } = await withRunFolder(parentFolder, (runFolder) =>
    repository.disks.restoreDiskTo(
      { restoreId, links, targetPath, targetFormat, runFolder, checkpointIntervalMs, checkpointIntervalBytes },
      {
        signal: cancellationSignal(),
        onProgress: ({ processedBytes, totalBytes, ratePerSecond, resumedAtBytes, checkpointBytes }) => {
          Object.assign(position, { processedBytes, totalBytes, checkpointBytes, ratePerSecond, attempt: activityInfo().attempt })
          dependencies.progress.reportRestore({ restoreId, processedBytes, totalBytes, ratePerSecond, resumedAtBytes })
        },
      },
    ),
  )
  return { restoreId, targetPath, restoredBytes }
}
