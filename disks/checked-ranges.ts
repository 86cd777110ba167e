import { checkBlocks, createBlockBuffers, type BlockVisitor, type CheckedBlocks } from './checked-blocks.ts'
import type { RangeClaims } from './range-claims.ts'

/**
 * Takes ranges and checks their blocks until none is left, one range per slot at a time. When one fails the others stop, and its
 * failure is thrown once nothing is under way any more.
 */
export async function checkRanges(
  parts: CheckedBlocks,
  ranges: { claims: RangeClaims; slots: readonly number[] },
  visitor: BlockVisitor,
): Promise<void> {
  const stop = new AbortController()
  const signal = AbortSignal.any([parts.signal, stop.signal])
  const readers = ranges.slots.map(async (slot) => {
    const buffers = createBlockBuffers()
    try {
      for (let range = ranges.claims.claim(slot); range !== null; range = ranges.claims.claim(slot)) {
        await checkBlocks({ ...parts, buffers, signal }, range, visitor)
      }
    } catch (error) {
      stop.abort(error)
    }
  })
  await Promise.all(readers)
  signal.throwIfAborted()
}
