/** Waiting for a repository: noting it, and looking whether the backup can go on. */
import { cancellationSignal } from '@temporalio/activity'
import type { Catalog } from '../db/client.ts'
import { loadBackupWork } from '../db/queries/backup-records.ts'
import type { BackupWork } from '../db/queries/backup-records.ts'
import { noteWhyParked, parkBackup, unparkBackup } from '../db/queries/parking.ts'
import type { ParkedWork, WhyParked } from '../db/queries/parking.ts'
import { reservationOf } from '../db/queries/reservations.ts'
import { HoldfastError } from '../domain/errors.ts'
import { parkedReasonOf } from '../domain/parking.ts'
import { roomToGoOnBytes } from '../domain/storage.ts'
import type { Reservation } from '../domain/storage.ts'
import type { Snapshot } from '../sources/source.ts'
import { locateBackup } from './backup-location.ts'
import type { BackupLocation } from './backup-location.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'
import { lookInTurn, type Look } from './look-turns.ts'
import { troubleOf } from './repository-trouble.ts'
import { withRunFolder } from './run-folders.ts'

export interface ParkingRecordActivities {
  /** Notes that this work waits, and opens the alert. Idempotent. */
  parkBackup(parked: ParkedWork & WhyParked): Promise<void>

  /** Notes that it goes on; with the last of the backup's the alert is resolved. Idempotent. */
  unparkBackup(work: ParkedWork): Promise<void>
}

/** Steps of the control worker. */
export function createParkingRecordActivities({ catalog }: { catalog: Catalog }): ParkingRecordActivities {
  return guarded({
    async parkBackup(parked: ParkedWork & WhyParked): Promise<void> {
      await parkBackup(catalog, parked)
    },

    async unparkBackup(work: ParkedWork): Promise<void> {
      await unparkBackup(catalog, work)
    },
  })
}

export interface ParkedBackup {
  backupId: string
  /** What the parked disk is read from, and must still be there; `null` when nothing more is read. */
  reads: { snapshot: Snapshot; diskIndex: number } | null
}

export interface ParkingActivities {
  /**
   * One look: returns when the repository answers, takes files and has room to go on. Otherwise `REPO_UNAVAILABLE` or `INSUFFICIENT_STORAGE`, retryable: the
   * profile's back-off is the wait. `SOURCE_CHANGED`, and `INSUFFICIENT_STORAGE` of a scratch folder, are lasting: the snapshot is gone.
   */
  awaitRepository(parked: ParkedBackup): Promise<void>
}

/** Steps of a data host. */
export function createParkingActivities(dependencies: HostDependencies): ParkingActivities {
  const { catalog } = dependencies
  const pending = new Map<string, Look>()
  return guarded({
    async awaitRepository({ backupId, reads }: ParkedBackup): Promise<void> {
      const work = await loadBackupWork(catalog, backupId)
      if (reads) await requireSnapshot(dependencies, work, reads)
      const location = locateBackup(work, dependencies)
      const look = async (): Look => (await troubleOf(location)) ?? (await wantOfRoom(catalog, work, location))
      const trouble = await lookInTurn(pending, work.repository.id, look)
      if (!trouble) return
      const reason = parkedReasonOf(trouble) ?? 'repository_unavailable'
      await noteWhyParked(catalog, backupId, { reason, message: trouble.message })
      throw new HoldfastError(trouble.code, trouble.message, { details: trouble.details, retryable: true })
    },
  })
}

/**
 * A backup whose snapshot was given up must not wait for room. Opening the disk also has its scratch space watched again, should the mover be
 * another one than when it was parked. Trouble that may pass is left to the transfer.
 */
async function requireSnapshot(
  { sourceOf, runFolder: parentFolder }: HostDependencies,
  { vm }: BackupWork,
  { snapshot, diskIndex }: NonNullable<ParkedBackup['reads']>,
): Promise<void> {
  const signal = cancellationSignal()
  try {
    const source = await sourceOf(vm)
    await withRunFolder(parentFolder, async (runFolder) => {
      const disk = await source.openDisk(vm.config, snapshot, diskIndex, { runFolder, signal })
      await disk.close()
    })
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof HoldfastError && ['SOURCE_CHANGED', 'INSUFFICIENT_STORAGE'].includes(error.code)) throw error
  }
}

async function wantOfRoom(catalog: Catalog, work: BackupWork, { repository }: BackupLocation): Promise<HoldfastError | null> {
  const storage = await repository.storage()
  const requiredBytes = roomToGoOnBytes((await reservationOf(catalog, work.job.id)) ?? wholeOf(work), storage)
  const { availableBytes } = storage
  if (availableBytes >= requiredBytes) return null
  return new HoldfastError(
    'INSUFFICIENT_STORAGE',
    `Repository "${work.repository.name}" has ${availableBytes} bytes free; the backup goes on by itself when ${requiredBytes} are free. Delete backups or add space.`,
    { details: { repository_id: repository.id, required_bytes: requiredBytes, available_bytes: availableBytes } },
  )
}

/** For a backup that was admitted before space was reserved. */
function wholeOf({ job }: BackupWork): Reservation {
  const { id: backupId, total_bytes: reservedBytes, processed_bytes: processed, bytes_transferred: writtenBytes } = job
  return { backupId, reservedBytes, writtenBytes, unreadBytes: Math.max(0, reservedBytes - processed) }
}
