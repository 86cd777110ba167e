/** Entry of a worker thread that restores ranges of a disk: read through the chain, compare with the birth hash, and only then write. */
import { HoldfastError } from '../domain/errors.ts'
import type { NbdEndpoint } from '../sources/source.ts'
import { BlockHashes } from './block-hashes.ts'
import type { BlockVisitor } from './checked-blocks.ts'
import { checkRanges } from './checked-ranges.ts'
import { serveThread } from './disk-thread.ts'
import { BASE_ALLOCATION } from './nbd/protocol.ts'
import { RangeClaims } from './range-claims.ts'
import { openRestoreSink, type RestoreSink, type SinkTarget } from './restore-sink.ts'
import { SteadyReader } from './steady-reader.ts'

const CONNECTIONS = 2
const REPORT_INTERVAL_MS = 500

export interface RestoreTask {
  backupId: string
  diskIndex: number
  source: NbdEndpoint
  target: SinkTarget
  blocksPath: string
  claims: SharedArrayBuffer
  slots: number[]
}

/** Bytes of the disk dealt with, and data bytes written. */
export interface RestoredBytes {
  processedBytes: number
  writtenBytes: number
}

export interface RestoreWork {
  input: RestoreTask
  result: RestoredBytes
  report: RestoredBytes
}

await serveThread<RestoreWork>(async (task, { signal, report }) => {
  const opened: { close(): Promise<void> }[] = []
  const keep = <T extends { close(): Promise<void> }>(resource: T): T => {
    opened.push(resource)
    return resource
  }
  const done: RestoredBytes = { processedBytes: 0, writtenBytes: 0 }
  const ticking = setInterval(() => report(done), REPORT_INTERVAL_MS)
  try {
    const hashes = keep(await BlockHashes.open(task.blocksPath))
    const { source: endpoint, diskIndex } = task
    const metaContexts = [BASE_ALLOCATION]
    const reader = keep(await SteadyReader.open({ endpoint, diskIndex, connections: CONNECTIONS, metaContexts, signal }))
    const sink = keep(await openRestoreSink(task.target))
    const source = {
      knowsZeroes: (await reader.metaContexts()).includes(BASE_ALLOCATION),
      read: (offset: number, into: Buffer) => reader.read(offset, into),
      extents: (contextName: string, from: number, to: number) => reader.extents(contextName, from, to),
    }
    const claims = RangeClaims.of(task.claims, hashes.diskSizeBytes)
    await checkRanges({ source, hashes, signal }, { claims, slots: task.slots }, writingTo(sink, task, done))
    return done
  } finally {
    clearInterval(ticking)
    await Promise.allSettled(opened.toReversed().map((resource) => resource.close()))
  }
})

function writingTo(sink: RestoreSink, task: RestoreTask, done: RestoredBytes): BlockVisitor {
  return {
    async sound(offset, data) {
      await sink.write(offset, data)
      done.writtenBytes += data.length
    },
    differs: (offset, length) => {
      throw corrupt(task, offset, length, 'are not what was first read')
    },
    unreadable: (offset, length, error) => {
      throw corrupt(task, offset, length, 'can no longer be read', error)
    },
    passed: (length) => {
      done.processedBytes += length
    },
  }
}

function corrupt(task: RestoreTask, offset: number, length: number, what: string, cause?: HoldfastError): HoldfastError {
  return new HoldfastError(
    'BACKUP_CORRUPT',
    `Disk ${task.diskIndex} of backup ${task.backupId} is damaged: the ${length} bytes at offset ${offset} ${what}. ` +
      'Nothing wrong was written, and the restore was not completed. Restore from another backup.',
    { cause, details: { backup_id: task.backupId, disk_index: task.diskIndex, offset_bytes: offset, length_bytes: length } },
  )
}
