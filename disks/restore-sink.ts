/** Where restored blocks go: straight into a raw file, or through a server into a QCOW2 image. Zeroes are left out: both begin as holes. */
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs'
import { CLUSTER_SIZE_BYTES } from '../domain/blocks.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { NbdEndpoint } from '../sources/source.ts'
import { NbdPool } from './nbd/nbd-pool.ts'
import { isSameFile, replacedMeanwhile, targetFailure, targetFull } from './restore-files.ts'
import type { FileIdentity } from './restore-journal.ts'

export type SinkTarget =
  | { type: 'raw'; path: string; file: FileIdentity }
  | { type: 'qcow2'; path: string; endpoint: NbdEndpoint }

/** `INSUFFICIENT_STORAGE` when the file system is full, `DISK_WRITE_FAILED` (retryable) for other failures. Durable only after a sync elsewhere. */
export interface RestoreSink {
  write(offset: number, data: Buffer): void | Promise<void>
  close(): Promise<void>
}

export async function openRestoreSink(target: SinkTarget): Promise<RestoreSink> {
  return target.type === 'raw' ? rawSink(target) : imageSink(target.path, target.endpoint)
}

/** Writes block this thread and no other: on a target that hangs, the pool of threads that serves the whole process stays free. */
function rawSink({ path, file }: { path: string; file: FileIdentity }): RestoreSink {
  const descriptor = openOwn(path, file)
  return {
    write(offset, data) {
      try {
        for (const { start, end } of dataRuns(data)) {
          for (let at = start; at < end;) at += writeSome(descriptor, data.subarray(at, end), offset + at)
        }
      } catch (error) {
        throw targetFailure(path, error)
      }
    },
    async close() {
      closeSync(descriptor)
    },
  }
}

function openOwn(path: string, file: FileIdentity): number {
  try {
    const descriptor = openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW)
    const { dev, ino } = fstatSync(descriptor, { bigint: true })
    if (isSameFile({ device: String(dev), inode: String(ino) }, file)) return descriptor
    closeSync(descriptor)
  } catch (error) {
    throw targetFailure(path, error)
  }
  throw replacedMeanwhile(path)
}

/** How much the file system took: all of it or a part. */
function writeSome(descriptor: number, data: Buffer, position: number): number {
  const written = writeSync(descriptor, data, 0, data.length, position)
  if (written === 0) throw new HoldfastError('DISK_WRITE_FAILED', 'The file system took none of the bytes it was given.')
  return written
}

const CONNECTIONS = 2
const SECTOR_BYTES = 512
/** Storage may stall for long; a write that is given up costs the whole attempt. */
const REQUEST_TIMEOUT_MS = 300_000

async function imageSink(path: string, endpoint: NbdEndpoint): Promise<RestoreSink> {
  const pool = await NbdPool.open(endpoint, { connections: CONNECTIONS, requestTimeoutMs: REQUEST_TIMEOUT_MS })
  return {
    async write(offset, data) {
      const writes = dataRuns(data).map(({ start, end }) => pool.write(offset + start, wholeSectors(data.subarray(start, end))))
      // Every answer is awaited: the buffer is free again only after the last.
      for (const result of await Promise.allSettled(writes))
        if (result.status === 'rejected') throw imageFailure(path, result.reason)
    },
    close: () => pool.close(),
  }
}

/** A disk's end need not be a multiple of what the server takes; the image reaches that far. */
function wholeSectors(data: Buffer): Buffer {
  const missing = -data.length & (SECTOR_BYTES - 1)
  return missing === 0 ? data : Buffer.concat([data, Buffer.alloc(missing)])
}

/** What a failed write or flush of the image means. */
export function imageFailure(path: string, cause: unknown): unknown {
  if (!(cause instanceof HoldfastError) || !cause.code.startsWith('NBD_')) return cause
  if (cause.details['errno'] === 'ENOSPC') return targetFull(path, cause)
  return new HoldfastError('DISK_WRITE_FAILED', `"${path}" could not be written: ${cause.message} It is tried again.`, {
    cause,
    details: { path },
  })
}

const ZERO_PIECE: Buffer = Buffer.alloc(CLUSTER_SIZE_BYTES)

/** The parts of a block, in pieces of a cluster, that are not all zeroes. */
export function dataRuns(data: Buffer): { start: number; end: number }[] {
  const runs: { start: number; end: number }[] = []
  for (let start = 0; start < data.length; start += CLUSTER_SIZE_BYTES) {
    const end = Math.min(start + CLUSTER_SIZE_BYTES, data.length)
    if (data.compare(ZERO_PIECE, 0, end - start, start, end) === 0) continue
    const last = runs.at(-1)
    if (last?.end === start) last.end = end
    else runs.push({ start, end })
  }
  return runs
}
