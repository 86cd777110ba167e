/** How ranges become requests that the server's block sizes and the 32-bit length field allow. All in bytes. */

export interface ByteRange {
  offset: number
  length: number
}

/** Below 4 GiB and a multiple of every block size the protocol allows (64 KiB at most). */
const STATUS_BYTES_MAX = 0xffff0000

/** The smallest range around `[offset, offset + length)` that consists of whole blocks. It may end beyond the disk. */
export function aligned(offset: number, length: number, sizes: { minBlockBytes: number }): ByteRange {
  const { minBlockBytes } = sizes
  const start = offset - (offset % minBlockBytes)
  const end = Math.ceil((offset + length) / minBlockBytes) * minBlockBytes
  return { offset: start, length: end - start }
}

/** `[offset, offset + length)` in pieces of at most `sizeBytesMax`, in order. */
export function pieces(offset: number, length: number, sizeBytesMax: number): ByteRange[] {
  return Array.from({ length: Math.ceil(length / sizeBytesMax) }, (_, index) => {
    const start = index * sizeBytesMax
    return { offset: offset + start, length: Math.min(sizeBytesMax, length - start) }
  })
}

/** The block status request for what begins at `offset`: aligned, below 4 GiB, and within the disk if the disk is whole blocks. */
export function statusRange(offset: number, length: number, disk: { minBlockBytes: number; sizeBytes: number }): ByteRange {
  const around = aligned(offset, length, disk)
  const wholeBlocks = Math.min(around.length, STATUS_BYTES_MAX)
  return { offset: around.offset, length: Math.min(wholeBlocks, disk.sizeBytes - around.offset) }
}
