/** What an attempt that ended early left in the image beyond its last checkpoint. */
import { BLOCK_SIZE_BYTES, blockCount } from '../domain/blocks.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { NbdEndpoint } from '../sources/source.ts'
import { BlockSet } from './block-set.ts'
import { NbdPool } from './nbd/nbd-pool.ts'
import { ALLOCATION_DEPTH } from './nbd/protocol.ts'
import { TARGET_TIMEOUT_MS } from './transfer-target.ts'

/** The image itself, not a parent. */
const OWN_DEPTH = 1

/**
 * Overwrites every cluster that the image itself has from `fromBytes` on with zeroes and returns the blocks they lie in.
 *
 * It makes a resumed copy independent of the earlier attempt: the source may show other content by now, so nothing that attempt wrote
 * without a checkpoint may come through where this one writes nothing. Without a parent that is all there is to do. Over a parent the zeroes
 * hide its content (QCOW2 cannot be told to show it again), so the returned blocks must be written whole. Compressed clusters cannot be
 * written over, but over zeroes they can.
 *
 * Errors are the NBD client's. Safe to repeat; durable with the next flush.
 */
export async function clearLeftovers(endpoint: NbdEndpoint, fromBytes: number, signal: AbortSignal): Promise<BlockSet> {
  const metaContexts = [ALLOCATION_DEPTH]
  const pool = await NbdPool.open(endpoint, { connections: 1, metaContexts, requestTimeoutMs: TARGET_TIMEOUT_MS, signal })
  try {
    const { sizeBytes, metaContexts: granted } = pool.export
    if (!granted.includes(ALLOCATION_DEPTH)) {
      throw new HoldfastError(
        'INTERNAL',
        'The server of the image does not tell what the image itself holds. Is it QEMU 5.2 or newer?',
      )
    }
    const blocks = new BlockSet(blockCount(sizeBytes))
    for await (const { offset, length, flags } of pool.extents(ALLOCATION_DEPTH, fromBytes, sizeBytes)) {
      signal.throwIfAborted()
      if (flags !== OWN_DEPTH) continue
      await pool.writeZeroes(offset, length)
      const end = Math.ceil((offset + length) / BLOCK_SIZE_BYTES)
      for (let index = Math.floor(offset / BLOCK_SIZE_BYTES); index < end; index++) blocks.add(index)
    }
    return blocks
  } finally {
    await pool.close()
  }
}
