/** A run of bytes with one status: flags as the metadata context defines them. */
export interface Extent {
  offset: number
  length: number
  flags: number
}

/**
 * More extents of one reply than this are checked but not kept: a reply may describe less than was asked, and the
 * memory that a server can make us use stays small.
 */
const EXTENTS_KEPT_MAX = 128 * 1024

/** Most extents in one chunk; nbdkit's own limit, QEMU's is lower. */
const EXTENTS_SENT_MAX = 1024 * 1024

/** Longest believable block status chunk for a request of `lengthBytes`: every extent describes at least one byte of it. */
export function blockStatusBytesMax(lengthBytes: number): number {
  return 4 + 8 * Math.min(lengthBytes, EXTENTS_SENT_MAX)
}

/**
 * Extents of one metadata context, clipped to the request. NBD protocol, section "NBD_REPLY_TYPE_BLOCK_STATUS".
 * Only the last one may reach beyond the request. Returns what is wrong as text.
 */
export function decodeExtents(descriptors: Buffer, request: { offset: number; length: number }): Extent[] | string {
  if (descriptors.length === 0 || descriptors.length % 8 !== 0)
    return `extents of ${descriptors.length} bytes, not a multiple of 8`
  const end = request.offset + request.length
  const extents: Extent[] = []
  let offset = request.offset
  for (let at = 0; at < descriptors.length; at += 8) {
    const length = descriptors.readUInt32BE(at)
    if (length === 0) return 'an extent of no bytes'
    if (offset >= end) return 'extents beyond the range that was asked for'
    if (extents.length < EXTENTS_KEPT_MAX) {
      extents.push({ offset, length: Math.min(length, end - offset), flags: descriptors.readUInt32BE(at + 4) })
    }
    offset += length
  }
  return extents
}

/** What of `extents` lies at or after `offset` and before `end`. */
export function clipExtents(extents: readonly Extent[], offset: number, end: number): Extent[] {
  return extents.flatMap((extent) => {
    const start = Math.max(extent.offset, offset)
    const length = Math.min(extent.offset + extent.length, end) - start
    return length > 0 ? [{ offset: start, length, flags: extent.flags }] : []
  })
}

/** Joins neighbouring extents with equal flags, across the borders of replies. */
export async function* mergeExtents(replies: AsyncIterable<readonly Extent[]>): AsyncGenerator<Extent> {
  let current: Extent | null = null
  for await (const extents of replies) {
    for (const extent of extents) {
      if (current && current.flags === extent.flags && current.offset + current.length === extent.offset) {
        current.length += extent.length
        continue
      }
      if (current) yield current
      current = { ...extent }
    }
  }
  if (current) yield current
}
