/** Space in a repository, in bytes, and the admission rule. */
export interface StorageInfo {
  totalBytes: number
  usedBytes: number
  availableBytes: number
  /** 0 where the file system does not count them. */
  totalInodes: number
  usedInodes: number
  writable: boolean
}

const MIB = 1024 * 1024

const STORAGE_RESERVE_MAX_BYTES = 256 * MIB
const STORAGE_RESERVE_SHARE = 0.05

/** Kept free whatever a backup asks for, so that journals and manifests still fit on a nearly full disk: 256 MiB, less on disks under 5 GiB. */
export function storageReserveBytes({ totalBytes }: Pick<StorageInfo, 'totalBytes'>): number {
  return Math.min(STORAGE_RESERVE_MAX_BYTES, Math.ceil(totalBytes * STORAGE_RESERVE_SHARE))
}

/**
 * Most bytes a disk's QCOW2 may need: the data itself, QCOW2 metadata (L2 tables and refcounts, under 1/4096)
 * and 32 bytes of hash per block. Compression is not counted on: encrypted guests do not compress.
 */
export function estimateDiskNeedBytes(disk: { sizeBytes: number; dataBytes: number }): number {
  const hashes = Math.ceil(disk.sizeBytes / 8192)
  return disk.dataBytes + Math.ceil(disk.dataBytes / 4096) + hashes + 1024 * 1024
}

/** An incremental without a history to learn from is expected to change no more than this part of the disk's data. */
const FIRST_INCREMENT_SHARE = 0.1

/**
 * Bytes an incremental is expected to need: twice the largest of its recent predecessors, and never more than the whole disk.
 * The most it could need is the whole disk, but refusing every incremental that might, would refuse nearly all that will not.
 */
export function estimateIncrementNeedBytes(
  disk: { sizeBytes: number; dataBytes: number },
  largestRecentBytes: number | null,
): number {
  const changedBytes = largestRecentBytes === null ? Math.ceil(disk.dataBytes * FIRST_INCREMENT_SHARE) : largestRecentBytes * 2
  const dataBytes = Math.min(disk.dataBytes, changedBytes)
  return estimateDiskNeedBytes({ sizeBytes: disk.sizeBytes, dataBytes })
}

/** Space that a backup was admitted with, and how far it has come. */
export interface Reservation {
  backupId: string
  reservedBytes: number
  /** Written before compression. */
  writtenBytes: number
  /** Of its disks, not dealt with yet. */
  unreadBytes: number
}

/** What a backup may still write of the space that it was admitted with. It never writes more than it has yet to read. */
export function outstandingBytes({ reservedBytes, writtenBytes, unreadBytes }: Reservation): number {
  return Math.max(0, Math.min(reservedBytes - writtenBytes, unreadBytes))
}

/** A parked backup goes on when there is room for so much of what it may still write, or for so many bytes: with less it would soon be parked again. */
const WORTHWHILE_SHARE = 0.25
const WORTHWHILE_BYTES = 64 * MIB

/**
 * Free bytes with which a parked backup goes on. An incremental's reservation is an estimate that it may have used up already; then only what
 * it has yet to read tells.
 */
export function roomToGoOnBytes(reservation: Reservation, storage: Pick<StorageInfo, 'totalBytes'>): number {
  const { unreadBytes } = reservation
  // All is copied: what is left is to seal and to publish.
  if (unreadBytes === 0) return Math.min(MIB, storageReserveBytes(storage))
  const leftBytes = Math.min(unreadBytes, Math.max(outstandingBytes(reservation), WORTHWHILE_BYTES))
  const worthwhile = Math.min(leftBytes, Math.max(WORTHWHILE_BYTES, Math.ceil(leftBytes * WORTHWHILE_SHARE)))
  return worthwhile + storageReserveBytes(storage)
}
