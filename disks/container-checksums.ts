/**
 * Checksums of the QCOW2 file itself, region by region, kept at the end of the blocks file: block hashes prove what a guest reads,
 * these find a flipped byte anywhere in the file, also where nothing is mapped, and say where.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { blocksFileSize, CHECKSUM_BYTES, encodeBlocksHeader, REGION_SIZE_BYTES, type BlockHashes } from './block-hashes.ts'
import { readFully, writeFully } from './positional-io.ts'
import { openRegularFile } from './regular-file.ts'

/** Regions read ahead, so that the storage works while the processor counts. */
const READS_AHEAD = 4
/** Checksums are collected and written in pieces of this many. */
const BATCH = 4_096

export interface Region {
  index: number
  offsetBytes: number
  lengthBytes: number
  checksum: number
}

/** Every region of a file in order, with the CRC-32 of what it holds. Reads the file once; memory: five regions. */
export async function* readRegions(file: FileHandle, fileSizeBytes: number, signal?: AbortSignal): AsyncGenerator<Region> {
  const count = Math.ceil(fileSizeBytes / REGION_SIZE_BYTES)
  const buffers = Array.from({ length: READS_AHEAD + 1 }, () => Buffer.allocUnsafeSlow(REGION_SIZE_BYTES))
  const reads: Promise<Buffer>[] = []
  const readRegion = async (index: number): Promise<Buffer> => {
    const buffer = (buffers[index % buffers.length] ?? Buffer.alloc(REGION_SIZE_BYTES)).subarray(
      0,
      Math.min(REGION_SIZE_BYTES, fileSizeBytes - index * REGION_SIZE_BYTES),
    )
    const bytesRead = await readFully(file, buffer, index * REGION_SIZE_BYTES)
    // A file that shrank is damage like any other: the checksum of what is left will differ.
    return buffer.subarray(0, bytesRead)
  }
  const readAhead = (index: number): Promise<Buffer> => {
    const reading = readRegion(index)
    // It may fail before its turn comes: the failure is kept for then, not reported as nobody's.
    reading.catch(() => {})
    return reading
  }
  try {
    for (let index = 0; index < count; index++) {
      signal?.throwIfAborted()
      for (let ahead = index + reads.length; ahead <= Math.min(index + READS_AHEAD, count - 1); ahead++)
        reads.push(readAhead(ahead))
      const bytes = await reads.shift()
      if (!bytes) return
      yield { index, offsetBytes: index * REGION_SIZE_BYTES, lengthBytes: bytes.length, checksum: crc32(bytes) }
    }
  } finally {
    // The buffers and the file must not be in use any more when the caller closes the file.
    await Promise.allSettled(reads)
  }
}

/**
 * Adds the checksums of the finished QCOW2 file to its blocks file and makes both durable. The header that counts them comes last, so
 * that a crash leaves an unfinished blocks file; repeating it gives the same bytes. Errors are those of the file system.
 */
export async function sealContainer(
  paths: { image: string; blocks: string },
  diskSizeBytes: number,
  signal?: AbortSignal,
): Promise<{ fileSizeBytes: number }> {
  const image = await open(paths.image, 'r')
  const blocks = await open(paths.blocks, 'r+')
  try {
    const { size: fileSizeBytes } = await image.stat()
    const regionCount = Math.ceil(fileSizeBytes / REGION_SIZE_BYTES)
    const start = blocksFileSize({ diskSizeBytes, regionCount: 0 })
    // Sealed before, it must not claim checksums while they are written again.
    await writeFully(blocks, encodeBlocksHeader({ diskSizeBytes, regionCount: 0 }), 0)
    await blocks.truncate(start)
    await writeChecksums(blocks, start, readRegions(image, fileSizeBytes, signal))
    await blocks.datasync()
    await writeFully(blocks, encodeBlocksHeader({ diskSizeBytes, regionCount }), 0)
    await blocks.sync()
    await image.sync()
    return { fileSizeBytes }
  } finally {
    await Promise.all([image.close(), blocks.close()])
  }
}

export type DamagedRegion = Omit<Region, 'checksum'>

/**
 * Regions whose bytes are not the ones that were sealed, in order. A file that is too short has such regions at its end; what a file has
 * too much is one, and is not read, because there could be any amount of it. None for what is no regular file: that is for the check of
 * the chain to tell. Throws what the file system throws.
 */
export async function* findDamagedRegions(
  imagePath: string,
  hashes: BlockHashes,
  signal?: AbortSignal,
): AsyncGenerator<DamagedRegion> {
  const image = await openRegularFile(imagePath)
  if (image === null) return
  try {
    const { size } = await image.stat()
    const sealedBytes = hashes.regionCount * REGION_SIZE_BYTES
    const lastRegionBytes = sealedBytes - REGION_SIZE_BYTES + 1
    for await (const region of readRegions(image, Math.min(Math.max(size, lastRegionBytes), sealedBytes), signal)) {
      if ((await hashes.regionChecksum(region.index)) !== region.checksum) yield region
    }
    if (size > sealedBytes) yield { index: hashes.regionCount, offsetBytes: sealedBytes, lengthBytes: size - sealedBytes }
  } finally {
    await image.close()
  }
}

async function writeChecksums(blocks: FileHandle, start: number, regions: AsyncIterable<Region>): Promise<void> {
  let batch: number[] = []
  let position = start
  const writeBatch = async (): Promise<void> => {
    const bytes = Buffer.alloc(batch.length * CHECKSUM_BYTES)
    for (const [index, checksum] of batch.entries()) bytes.writeUInt32LE(checksum, index * CHECKSUM_BYTES)
    await writeFully(blocks, bytes, position)
    position += bytes.length
    batch = []
  }
  for await (const region of regions) {
    batch.push(region.checksum)
    if (batch.length === BATCH) await writeBatch()
  }
  if (batch.length > 0) await writeBatch()
}
