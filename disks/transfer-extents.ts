/** What the source says about its extents, as the plan needs it. */
import { BLOCK_SIZE_BYTES } from '../domain/blocks.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { OpenDisk } from '../sources/source.ts'
import { BASE_ALLOCATION, STATE_DIRTY, STATE_ZERO } from './nbd/protocol.ts'
import type { SteadyReader } from './steady-reader.ts'
import { overlay, type Answer, type Segment } from './transfer-plan.ts'

export function metaContextsOf(changes: OpenDisk['changes']): string[] {
  return changes.type === 'dirty-bitmap' ? [BASE_ALLOCATION, changes.metaContext] : [BASE_ALLOCATION]
}

export interface ExtentRange {
  from: number
  to: number
  /** `null`: no parent, everything is changed. */
  parentSizeBytes: number | null
}

/**
 * The range as segments. A server without `base:allocation` promises no zeroes: everything is read. `SOURCE_CHANGED` when the dirty
 * bitmap that was promised is not there: what changed is then unknown.
 */
export async function* changedSince(
  reader: SteadyReader,
  source: { diskIndex: number; changes: OpenDisk['changes'] },
  range: ExtentRange,
  signal: AbortSignal,
): AsyncGenerator<Segment> {
  signal.throwIfAborted()
  const granted = await reader.metaContexts()
  const zeroes = granted.includes(BASE_ALLOCATION)
    ? answers(reader, BASE_ALLOCATION, STATE_ZERO, range)
    : always(false, range.from, range.to)
  yield* overlay(changes(reader, source, granted, range), zeroes)
}

async function* changes(
  reader: SteadyReader,
  source: { diskIndex: number; changes: OpenDisk['changes'] },
  granted: readonly string[],
  range: ExtentRange,
): AsyncGenerator<Answer> {
  if (range.parentSizeBytes === null || source.changes.type === 'compare-hashes') {
    yield* always(true, range.from, range.to)
    return
  }
  const { metaContext } = source.changes
  if (!granted.includes(metaContext)) throw bitmapMissing(source.diskIndex, metaContext)
  // A bitmap need not know what was added to the disk; the parent's short last block is not a block of this disk.
  const keptTo =
    range.to === range.parentSizeBytes ? range.to : Math.floor(range.parentSizeBytes / BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES
  const bitmapTo = Math.max(range.from, Math.min(range.to, keptTo))
  yield* answers(reader, metaContext, STATE_DIRTY, { from: range.from, to: bitmapTo })
  yield* always(true, bitmapTo, range.to)
}

async function* answers(
  reader: SteadyReader,
  contextName: string,
  flag: number,
  range: { from: number; to: number },
): AsyncGenerator<Answer> {
  for await (const { offset, length, flags } of reader.extents(contextName, range.from, range.to)) {
    yield { offset, length, yes: (flags & flag) !== 0 }
  }
}

async function* always(yes: boolean, from: number, to: number): AsyncGenerator<Answer> {
  if (to > from) yield { offset: from, length: to - from, yes }
}

function bitmapMissing(diskIndex: number, metaContext: string): HoldfastError {
  return new HoldfastError(
    'SOURCE_CHANGED',
    `The source no longer serves what changed on disk ${diskIndex} (${metaContext}). Start the backup again.`,
    { details: { disk: diskIndex, metaContext } },
  )
}
