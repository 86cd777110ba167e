/** Reads blocks back and compares each with its birth hash. Shared by verification, which reports, and restore, which refuses. */
import { hash } from 'node:crypto'
import { BLOCK_SIZE_BYTES, blockLengthBytes } from '../domain/blocks.ts'
import { HoldfastError } from '../domain/errors.ts'
import { ZERO_DIGEST, type BlockHashes } from './block-hashes.ts'
import type { Extent } from './nbd/block-status.ts'
import { BASE_ALLOCATION, STATE_ZERO } from './nbd/protocol.ts'
import type { ByteRange } from './range-claims.ts'

/** Blocks of one range under way at once. */
const LANES = 8
/** A buffer for each block under way. Given to every range in turn, because freshly made ones would pile up until they are collected. */
export type BlockBuffers = readonly Buffer[]

export function createBlockBuffers(): BlockBuffers {
  return Array.from({ length: LANES }, () => Buffer.allocUnsafeSlow(BLOCK_SIZE_BYTES))
}

const ZERO_BLOCK: Buffer = Buffer.alloc(BLOCK_SIZE_BYTES)

/** Where blocks are read from. */
export interface BlockSource {
  /** Whether the server tells which parts read as zeroes. */
  readonly knowsZeroes: boolean
  /** Fills `into` with the disk's bytes from `offset` on. */
  read(offset: number, into: Buffer): Promise<void>
  extents(contextName: string, from: number, to: number): AsyncIterable<Extent>
}

/** What is done with a block. Offsets in bytes of the disk. */
export interface BlockVisitor {
  /** The block holds data, and it is what was first read. `data` is reused when the promise has settled. */
  sound(offset: number, data: Buffer): void | Promise<void>
  /** The block is not what was first read. Throwing ends the reading. */
  differs(offset: number, length: number): void
  /** The server answered that it cannot read the block. Throwing ends the reading. */
  unreadable(offset: number, length: number, error: HoldfastError): void
  /** Bytes dealt with, whatever came of them. */
  passed(length: number): void
}

export interface CheckedBlocks {
  source: BlockSource
  hashes: BlockHashes
  signal: AbortSignal
}

/**
 * Visits every block of `range` (which begins at a block) in any order. Blocks that read as zeroes, and should, are only passed:
 * where the server itself says that a block is zero it is not even read. Throws what reading throws when the server is gone, what the
 * visitor throws, or the signal's reason; then nothing is under way any more.
 */
export async function checkBlocks(
  parts: CheckedBlocks & { buffers: BlockBuffers },
  range: ByteRange,
  visitor: BlockVisitor,
): Promise<void> {
  const zeroes = parts.source.knowsZeroes ? await zeroBlocks(parts, range) : new Set<number>()
  let next = Math.floor(range.from / BLOCK_SIZE_BYTES)
  const end = Math.ceil(range.to / BLOCK_SIZE_BYTES)
  const lane = async (buffer: Buffer): Promise<void> => {
    while (next < end) {
      parts.signal.throwIfAborted()
      const index = next++
      await checkBlock(parts, index, zeroes.has(index), buffer, visitor)
    }
  }
  const stopOthers = (error: unknown): never => {
    next = end
    throw error
  }
  const results = await Promise.allSettled(parts.buffers.map((buffer) => lane(buffer).catch(stopOthers)))
  parts.signal.throwIfAborted()
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

async function checkBlock(
  { source, hashes }: CheckedBlocks,
  index: number,
  isKnownZero: boolean,
  buffer: Buffer,
  visitor: BlockVisitor,
): Promise<void> {
  const offset = index * BLOCK_SIZE_BYTES
  const length = blockLengthBytes(index, hashes.diskSizeBytes)
  const digest = await hashes.digest(index)
  const shouldBeZero = digest.equals(ZERO_DIGEST)
  if (isKnownZero) {
    if (!shouldBeZero) visitor.differs(offset, length)
  } else {
    const data = buffer.subarray(0, length)
    const failure = await readFailure(source, offset, data)
    if (failure) visitor.unreadable(offset, length, failure)
    else if (shouldBeZero ? !isZero(data) : !hash('sha256', data, 'buffer').equals(digest)) visitor.differs(offset, length)
    else if (!shouldBeZero) await visitor.sound(offset, data)
  }
  visitor.passed(length)
}

/** An answer that the block cannot be read is a finding; silence or a lost server is not, and is thrown. */
async function readFailure(source: BlockSource, offset: number, into: Buffer): Promise<HoldfastError | null> {
  try {
    await source.read(offset, into)
    return null
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'NBD_REQUEST_FAILED') return error
    throw error
  }
}

function isZero(data: Buffer): boolean {
  return data.equals(data.length === BLOCK_SIZE_BYTES ? ZERO_BLOCK : ZERO_BLOCK.subarray(0, data.length))
}

/** Indexes of the blocks of a range that lie wholly in extents that read as zeroes. */
async function zeroBlocks({ source, hashes }: CheckedBlocks, range: ByteRange): Promise<Set<number>> {
  const found = new Set<number>()
  let zeroFrom = range.from
  let zeroTo = range.from
  const collect = (): void => {
    for (let index = Math.ceil(zeroFrom / BLOCK_SIZE_BYTES); index * BLOCK_SIZE_BYTES < zeroTo; index++) {
      const end = index * BLOCK_SIZE_BYTES + blockLengthBytes(index, hashes.diskSizeBytes)
      if (end <= zeroTo) found.add(index)
    }
  }
  for await (const extent of source.extents(BASE_ALLOCATION, range.from, range.to)) {
    if ((extent.flags & STATE_ZERO) === 0) continue
    if (extent.offset !== zeroTo) {
      collect()
      zeroFrom = extent.offset
    }
    zeroTo = extent.offset + extent.length
  }
  collect()
  return found
}
