/** Entry of a worker thread that reads a backup back: a QCOW2 file as it lies there, or ranges of the disk through its chain. */
import type { NbdEndpoint } from '../sources/source.ts'
import { HoldfastError } from '../domain/errors.ts'
import { BlockHashes } from './block-hashes.ts'
import type { BlockSource, BlockVisitor } from './checked-blocks.ts'
import { checkRanges } from './checked-ranges.ts'
import { findDamagedRegions } from './container-checksums.ts'
import { serveThread } from './disk-thread.ts'
import { Findings, type Finding } from './findings.ts'
import { NbdPool } from './nbd/nbd-pool.ts'
import { BASE_ALLOCATION } from './nbd/protocol.ts'
import { RangeClaims } from './range-claims.ts'

const CONNECTIONS = 2
const REPORT_INTERVAL_MS = 500

export interface ContainerTask {
  imagePath: string
  blocksPath: string
}

export interface BlocksTask {
  endpoint: NbdEndpoint
  blocksPath: string
  claims: SharedArrayBuffer
  /** Slots of the claims that are this thread's: as many ranges are read at a time. */
  slots: number[]
}

export interface VerifyWork {
  input: { container: ContainerTask } | { blocks: BlocksTask }
  result: Finding[]
  /** Bytes of the disk that this thread has dealt with. */
  report: number
}

await serveThread<VerifyWork>((input, { signal, report }) =>
  'container' in input ? checkContainer(input.container, signal) : checkDisk(input.blocks, signal, report),
)

async function checkContainer(task: ContainerTask, signal: AbortSignal): Promise<Finding[]> {
  const found = new Findings()
  const hashes = await BlockHashes.open(task.blocksPath)
  try {
    for await (const { offsetBytes, lengthBytes } of findDamagedRegions(task.imagePath, hashes, signal)) {
      found.add({ reason: 'differs', offsetBytes, lengthBytes })
    }
    return [...found.kept]
  } catch (error) {
    // A missing file has no bytes to compare; that it is missing is told by the check of the chain.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw unreadable(task.imagePath, error)
  } finally {
    await hashes.close()
  }
}

async function checkDisk(task: BlocksTask, signal: AbortSignal, report: (bytes: number) => void): Promise<Finding[]> {
  const found = new Findings()
  let passedBytes = 0
  const visitor: BlockVisitor = {
    sound: () => {},
    differs: (offsetBytes, lengthBytes) => found.add({ reason: 'differs', offsetBytes, lengthBytes }),
    unreadable: (offsetBytes, lengthBytes) => found.add({ reason: 'unreadable', offsetBytes, lengthBytes }),
    passed: (length) => (passedBytes += length),
  }
  const hashes = await BlockHashes.open(task.blocksPath)
  const ticking = setInterval(() => report(passedBytes), REPORT_INTERVAL_MS)
  try {
    const pool = await NbdPool.open(task.endpoint, { connections: CONNECTIONS, metaContexts: [BASE_ALLOCATION], signal })
    try {
      const claims = RangeClaims.of(task.claims, hashes.diskSizeBytes)
      await checkRanges({ source: asSource(pool), hashes, signal }, { claims, slots: task.slots }, visitor)
    } finally {
      await pool.close()
    }
    report(passedBytes)
    return [...found.kept]
  } finally {
    clearInterval(ticking)
    await hashes.close()
  }
}

function asSource(pool: NbdPool): BlockSource {
  return {
    knowsZeroes: pool.export.metaContexts.includes(BASE_ALLOCATION),
    read: (offset, into) => pool.read(offset, into.length, into),
    extents: (contextName, from, to) => pool.extents(contextName, from, to),
  }
}

/** A file that cannot be read now says nothing about what is in it. */
function unreadable(path: string, cause: unknown): unknown {
  if (!(cause instanceof Error) || !('syscall' in cause)) return cause
  return new HoldfastError('REPO_UNAVAILABLE', `"${path}" could not be read: ${cause.message}. Check the repository's storage.`, {
    cause,
    details: { path },
  })
}
