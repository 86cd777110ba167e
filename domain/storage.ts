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

/** Kept free whatever a backup asks for, so that deletion and journals still work on a nearly full disk. */
export const STORAGE_RESERVE_BYTES = 256 * 1024 * 1024

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
