/** Copying one disk of a snapshot into the staging folder: the long, resumable step. */
import { activityInfo, cancellationSignal } from '@temporalio/activity'
import { loadBackupWork, noteDiskFailure } from '../db/queries/backup-records.ts'
import type { BackupWork } from '../db/queries/backup-records.ts'
import type { TransferProgress, TransferRequest, TransferResult } from '../disks/transfer.ts'
import { HoldfastError, type ErrorCode } from '../domain/errors.ts'
import { parkedReasonOf } from '../domain/parking.ts'
import type { OpenDisk, Snapshot } from '../sources/source.ts'
import { holdingDisk } from './attempt-lock.ts'
import { locateBackup } from './backup-location.ts'
import type { BackupLocation } from './backup-location.ts'
import { linksOfDisk, loadChain } from './chain-links.ts'
import { guardedResumable } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'
import { PARKED_AFTER } from './persistence.ts'
import { inRepository } from './repository-trouble.ts'
import { resumable } from './resumable.ts'
import type { Position } from './resumable.ts'
import { withRunFolder } from './run-folders.ts'

export interface TransferInput {
  backupId: string
  diskIndex: number
  snapshot: Snapshot
}

/** What the manifest needs to know of a copied disk. */
export interface DiskOutcome extends TransferResult {
  diskIndex: number
}

export interface TransferActivities {
  /**
   * Copies the disk, or goes on from its journal. Cancelled or shut down, it leaves a checkpoint and no process. `SOURCE_CHANGED` when
   * the snapshot is no longer what it was; retryable errors become lasting after several attempts without progress. A failure that the
   * repository explains says so (`INSUFFICIENT_STORAGE`, `REPO_UNAVAILABLE`, with its `repository_id`): then the step can be run again later.
   */
  transferDisk(input: TransferInput): Promise<DiskOutcome>
}

export function createTransferActivities(dependencies: HostDependencies): TransferActivities {
  return guardedResumable({
    async transferDisk(input: TransferInput): Promise<DiskOutcome> {
      const { backupId, diskIndex } = input
      return resumable(
        (position) => transferOnce(dependencies, input, position),
        async (failure) => {
          if (parkedReasonOf(failure) !== null) return
          // Only a note beside the backup's own reason: without a catalog the failure itself must still get through.
          await noteDiskFailure(dependencies.catalog, backupId, diskIndex, failure.message).catch(() => undefined)
        },
        PARKED_AFTER,
      )
    },
  })
}

async function transferOnce(dependencies: HostDependencies, input: TransferInput, position: Position): Promise<DiskOutcome> {
  const { backupId, diskIndex } = input
  const signal = cancellationSignal()
  const work = await loadBackupWork(dependencies.catalog, backupId)
  const location = locateBackup(work, dependencies)
  const reached = () => ({ checkpoint_bytes: position.checkpointBytes })
  // Before the lock, which an attempt that hangs in a dead share may hold for as long as that is dead.
  const target = await inRepository(location, () => targetOf(location, work, diskIndex), reached)
  const copy = (source: OpenDisk, runFolder: string) => {
    const { rate_limit_bytes_per_second: rateLimitBytesPerSecond } = work.job
    const { checkpointIntervalMs, checkpointIntervalBytes } = dependencies
    const pace = { rateLimitBytesPerSecond, checkpointIntervalMs, checkpointIntervalBytes }
    return location.repository.disks.transferDisk(
      { source, snapshotId: input.snapshot.id, target, runFolder, ...pace },
      { signal, onProgress: (progress) => report(dependencies, input, position, progress) },
    )
  }
  const attempt = () =>
    withRunFolder(dependencies.runFolder, (runFolder) =>
      withOpenDisk(dependencies, work, input, runFolder, (source) =>
        inRepository(location, () => copy(source, runFolder), reached),
      ),
    )
  return { diskIndex, ...(await holdingDisk(backupId, diskIndex, attempt, { signal })) }
}

async function targetOf(
  { repository, reference }: BackupLocation,
  work: BackupWork,
  diskIndex: number,
): Promise<TransferRequest['target']> {
  const disk = work.disks.find((candidate) => candidate.disk_index === diskIndex)
  if (!disk) throw new HoldfastError('DISK_NOT_FOUND', `Backup ${work.job.id} has no disk ${diskIndex} in the catalog.`)
  const { folder } = await repository.createBackup(reference)
  const { size_bytes: sizeBytes, backup_type: backupType } = disk
  const target = { folder, diskIndex, sizeBytes, compression: work.job.compression }
  const parentId = work.job.parent_backup_id
  if (backupType === 'full' || parentId === null) return { ...target, parent: null }
  const chain = await loadChain(repository, { ...reference, backupId: parentId })
  const parentDisk = chain.newest.manifest.disks.find((candidate) => candidate.key === disk.disk_key)
  if (!parentDisk)
    throw new HoldfastError('CORRUPT_CHAIN', `Parent ${parentId} of backup ${work.job.id} has no disk ${disk.disk_key}.`)
  return { ...target, parent: { links: linksOfDisk(chain, parentDisk) } }
}

/** Closing tells whether the content stayed what it was, so after a success its answer counts, and after a failure it may explain it. */
async function withOpenDisk<T>(
  { sourceOf }: HostDependencies,
  { vm }: BackupWork,
  { snapshot, diskIndex }: TransferInput,
  runFolder: string,
  use: (disk: OpenDisk) => Promise<T>,
): Promise<T> {
  const signal = cancellationSignal()
  const source = await sourceOf(vm)
  const disk = await source.openDisk(vm.config, snapshot, diskIndex, { runFolder, signal })
  let result: T
  try {
    result = await use(disk)
  } catch (error) {
    const explanation = await disk.close().catch((closing: unknown) => closing)
    throw explanation instanceof HoldfastError && explainingCodes.has(explanation.code) ? explanation : error
  }
  await disk.close()
  return result
}

/** The snapshot is no longer what it was, or was given up for want of scratch space: whatever failed, that is why. */
const explainingCodes = new Set<ErrorCode>(['SOURCE_CHANGED', 'INSUFFICIENT_STORAGE'])

function report({ progress }: HostDependencies, input: TransferInput, position: Position, now: TransferProgress): void {
  const { processedBytes, totalBytes, checkpointBytes, ratePerSecond, writtenBytes, resumedAtBytes } = now
  Object.assign(position, { processedBytes, totalBytes, checkpointBytes, ratePerSecond })
  const { backupId, diskIndex } = input
  progress.reportDisk({
    backupId,
    diskIndex,
    processedBytes,
    writtenBytes,
    ratePerSecond,
    resumedAtBytes,
    attempt: activityInfo().attempt,
  })
}
