/** What a copy works with: opened together, and closed together when one cannot be opened. */
import { BLOCK_SIZE_BYTES } from '../domain/blocks.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { NbdEndpoint, OpenDisk } from '../sources/source.ts'
import { BlockHashes, hashBlocksFile } from './block-hashes.ts'
import { BlockHashesWriter } from './block-hashes-writer.ts'
import type { BlockSet } from './block-set.ts'
import { Journal, type Checkpoint, type TransferIdentity } from './journal.ts'
import { SteadyReader } from './steady-reader.ts'
import { metaContextsOf } from './transfer-extents.ts'
import { clearLeftovers } from './transfer-leftovers.ts'
import { TransferTarget } from './transfer-target.ts'

/** To the source and to the target each. */
const CONNECTIONS = 4

export interface CopyTask {
  diskIndex: number
  identity: TransferIdentity
  source: NbdEndpoint
  changes: OpenDisk['changes']
  target: NbdEndpoint
  blocksPath: string
  journalPath: string
  parent: CopyParent | null
  /** Where an earlier attempt got to; `null` for a fresh image. */
  resume: Checkpoint | null
  rateLimitBytesPerSecond: number | null
  checkpointIntervalMs: number
  checkpointIntervalBytes: number
  sourceTimeoutMs: number | null
}

export interface CopyParent {
  backupId: string
  sizeBytes: number
  blocksPath: string
  /** From the parent's manifest. */
  blocksSha256: string
}

export interface CopyParts {
  task: CopyTask
  parentHashes: BlockHashes | null
  reader: SteadyReader
  target: TransferTarget
  /** Blocks in which an earlier attempt left something that must not come through; see {@link clearLeftovers}. */
  leftovers: BlockSet | null
  hashes: BlockHashesWriter
  journal: Journal
  /** Stops the lanes from inside; `signal` follows it and the caller's. */
  stop: AbortController
  signal: AbortSignal
  opened: { close(): Promise<void> }[]
}

/** Opens in order, closes whatever is open when a later one fails. */
export async function openCopy(task: CopyTask, signal: AbortSignal): Promise<CopyParts> {
  const opened: { close(): Promise<void> }[] = []
  const keep = <T extends { close(): Promise<void> }>(resource: T): T => {
    opened.push(resource)
    return resource
  }
  const stop = new AbortController()
  const stopSignal = AbortSignal.any([signal, stop.signal])
  try {
    const { sizeBytes } = task.identity
    const parentHashes = task.parent === null ? null : keep(await openTrustedHashes(task.parent, signal))
    const reader = keep(
      await SteadyReader.open({
        endpoint: task.source,
        diskIndex: task.diskIndex,
        connections: CONNECTIONS,
        metaContexts: metaContextsOf(task.changes),
        requestTimeoutMs: task.sourceTimeoutMs ?? undefined,
        signal: stopSignal,
      }),
    )
    await expectSize(reader, task)
    const target = keep(
      await TransferTarget.open({
        endpoint: task.target,
        diskIndex: task.diskIndex,
        connections: CONNECTIONS,
      }),
    )
    const leftovers = task.resume === null ? null : await clearLeftovers(task.target, task.resume.positionBytes, stopSignal)
    const firstIndex = Math.ceil((task.resume?.positionBytes ?? 0) / BLOCK_SIZE_BYTES)
    const hashes = keep(
      await (task.resume === null
        ? BlockHashesWriter.create(task.blocksPath, sizeBytes)
        : BlockHashesWriter.resume(task.blocksPath, sizeBytes, firstIndex)),
    )
    const journal = keep(await Journal.open(task.journalPath, task.identity))
    return { task, parentHashes, reader, target, leftovers, hashes, journal, stop, signal: stopSignal, opened }
  } catch (error) {
    await Promise.allSettled(opened.map((resource) => resource.close()))
    throw error
  }
}

async function openTrustedHashes(parent: CopyParent, signal: AbortSignal): Promise<BlockHashes> {
  const found = await hashBlocksFile(parent.blocksPath, signal)
  if (found === parent.blocksSha256) return BlockHashes.open(parent.blocksPath)
  throw new HoldfastError(
    'CORRUPT_CHAIN',
    `Backup ${parent.backupId} cannot be a parent: SHA-256 of "${parent.blocksPath}" is ${found}, expected ${parent.blocksSha256}. Make a new full backup.`,
    { details: { backupId: parent.backupId, path: parent.blocksPath, found, expected: parent.blocksSha256 } },
  )
}

async function expectSize(reader: SteadyReader, task: CopyTask): Promise<void> {
  const found = await reader.sizeBytes()
  const expected = task.identity.sizeBytes
  if (found === expected) return
  throw new HoldfastError(
    'SOURCE_CHANGED',
    `Disk ${task.diskIndex} has ${found} bytes, its snapshot said ${expected}. Start the backup again.`,
    { details: { disk: task.diskIndex, foundBytes: found, expectedBytes: expected } },
  )
}
