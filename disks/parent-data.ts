import { DIGEST_BYTES } from '../domain/blocks.ts'
import { ZERO_DIGEST, type BlockHashes } from './block-hashes.ts'

/** Digests looked at together: 128 KiB of the file. */
const PIECE = 4_096
const ZERO_DIGESTS: Buffer = Buffer.alloc(PIECE * DIGEST_BYTES)

export interface BlockRun {
  firstIndex: number
  count: number
}

/**
 * Where `count` blocks from `firstIndex` on hold data, as runs in order; neighbours may touch. Beyond the disk's end there is none.
 * Reads the digests in pieces of its own: long runs from several lanes would drive each other's windows out of {@link BlockHashes}.
 */
export async function* dataRuns(hashes: BlockHashes, firstIndex: number, count: number): AsyncGenerator<BlockRun> {
  const end = Math.min(firstIndex + count, hashes.blockCount)
  for (let start = firstIndex; start < end; start += PIECE) {
    const digests = Buffer.allocUnsafe(Math.min(PIECE, end - start) * DIGEST_BYTES)
    await hashes.readDigests(start, digests)
    yield* runsIn(digests, start)
  }
}

function* runsIn(digests: Buffer, firstIndex: number): Generator<BlockRun> {
  if (digests.equals(ZERO_DIGESTS.subarray(0, digests.length))) return
  const count = digests.length / DIGEST_BYTES
  let runStart = -1
  for (let at = 0; at <= count; at++) {
    const isData = at < count && ZERO_DIGEST.compare(digests, at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES) !== 0
    if (isData && runStart < 0) runStart = at
    if (isData || runStart < 0) continue
    yield { firstIndex: firstIndex + runStart, count: at - runStart }
    runStart = -1
  }
}
