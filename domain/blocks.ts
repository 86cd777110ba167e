/**
 * The fixed grid of a disk: hashes are per block, QCOW2 allocates per cluster.
 * All offsets and lengths are in bytes.
 */

/** One hash covers this many bytes of the disk. A disk's last block may be shorter. */
export const BLOCK_SIZE_BYTES = 256 * 1024

/** QCOW2 cluster size of every file we write; zero detection works at this grain. */
export const CLUSTER_SIZE_BYTES = 64 * 1024

/** Length of a SHA-256 digest. */
export const DIGEST_BYTES = 32

export function blockCount(diskSizeBytes: number): number {
  return Math.ceil(diskSizeBytes / BLOCK_SIZE_BYTES)
}

/** Length of block `index`: the grid's size, or what is left of the disk. */
export function blockLengthBytes(index: number, diskSizeBytes: number): number {
  return Math.min(BLOCK_SIZE_BYTES, diskSizeBytes - index * BLOCK_SIZE_BYTES)
}
