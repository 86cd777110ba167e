/** NBD servers for images of this host: one `qemu-nbd` per disk, on a unix socket that only we can reach. */
import { randomBytes } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Compression } from '../domain/backup.ts'
import { HoldfastError, type JsonObject } from '../domain/errors.ts'
import type { NbdEndpoint } from '../sources/source.ts'
import { isLockedError } from '../tools/qemu-img.ts'
import { startQemuNbd, type QemuNbdOptions } from '../tools/qemu-nbd.ts'
import type { RunningTool, ToolExit } from '../tools/run-tool.ts'
import { checkChain, qcow2Node, type ChainLink } from './chain.ts'

export interface ServeOptions {
  /** Where the socket goes; made if missing. Short: socket paths have at most 107 bytes. */
  runFolder: string
  /** Aborts the start only. Whoever serves also closes, after what must still be flushed. */
  signal?: AbortSignal | undefined
}

export interface ServedDisk {
  endpoint: NbdEndpoint
  pid: number
  /** Settles when the server is gone, however it ended. */
  exited: Promise<ToolExit>
  /** Stops the server, waits for it and removes its socket. Idempotent. */
  close(): Promise<void>
}

const EXPORT_NAME = 'disk'
/** Several clients' pools, the readiness probe and reconnects at once. */
const CONNECTIONS_MAX = 16
const STOP_GRACE_MS = 30_000
/** A killed predecessor holds its lock until the kernel has buried it. */
const LOCK_PATIENCE_MS = 10_000
const LOCK_POLL_MS = 100

type InputOutput = Pick<QemuNbdOptions, 'cache' | 'aio'>

/** From the best to what works everywhere: some FUSE and CIFS mounts refuse O_DIRECT, some hosts io_uring. */
const pastThePageCache: readonly InputOutput[] = [
  { cache: 'none', aio: 'io_uring' },
  { cache: 'none', aio: 'native' },
  { cache: 'writeback', aio: 'threads' },
]

/** Threads, not io_uring: with buffered reads io_uring once left a request unanswered for a minute (QEMU 7.2), and it was no faster. */
const throughThePageCache: readonly InputOutput[] = [{ cache: 'writeback', aio: 'threads' }]

/**
 * Serves the newest backup of a chain read-only, after {@link checkChain}; its errors, and those of {@link serveGraph}. Through the page
 * cache: verification reads the same files for their checksums, and clusters of compressed images share sectors.
 */
export async function serveChain(links: readonly ChainLink[], options: ServeOptions): Promise<ServedDisk> {
  return serveGraph(await checkChain(links), { ...options, readOnly: true, modes: throughThePageCache })
}

/** Serves an image file of a known format read-only. References inside the image are followed: only for images that the administrator named. */
export async function serveImage(path: string, format: string, options: ServeOptions): Promise<ServedDisk> {
  return serveGraph(
    { driver: format, file: { driver: 'file', filename: path } },
    { ...options, readOnly: true, modes: pastThePageCache },
  )
}

/**
 * Serves a QCOW2 file of ours for writing, on top of its checked parents. With compression every WRITE becomes compressed clusters, so
 * writes must be whole clusters and a compressed cluster cannot be written twice (QEMU answers EIO) unless it was zeroed in between.
 * Compressed clusters end anywhere in a sector: past the page cache each would cost a read and a second write (measured: a third slower).
 */
export async function serveTarget(
  path: string,
  target: { backing: readonly ChainLink[] | null; compression: Compression },
  options: ServeOptions,
): Promise<ServedDisk> {
  const backing = target.backing === null ? null : await checkChain(target.backing)
  const image = qcow2Node(path, { readOnly: false, backing })
  const forWriting = { ...options, readOnly: false, allocationDepth: true }
  return target.compression === 'zstd'
    ? serveGraph({ driver: 'compress', file: image }, { ...forWriting, modes: throughThePageCache })
    : serveGraph(image, { ...forWriting, modes: pastThePageCache })
}

/**
 * Serves an explicit block graph. `SOURCE_BUSY` (retryable) when another process keeps an image locked, `TOOL_FAILED` with QEMU's words
 * when it cannot open the graph, `TOOL_MISSING`, `TOOL_TIMEOUT`, `INVALID_REQUEST` (socket path too long). On failure nothing runs.
 */
export async function serveGraph(
  blockGraph: JsonObject,
  options: ServeOptions & {
    readOnly: boolean
    modes?: readonly InputOutput[]
    allocationDepth?: boolean
    bitmap?: string | undefined
  },
): Promise<ServedDisk> {
  await mkdir(options.runFolder, { recursive: true, mode: 0o700 })
  const socketPath = join(options.runFolder, `${randomBytes(5).toString('hex')}.sock`)
  const start = (mode: InputOutput): Promise<RunningTool> =>
    startQemuNbd({
      ...mode,
      blockGraph,
      socketPath,
      exportName: EXPORT_NAME,
      readOnly: options.readOnly,
      connections: CONNECTIONS_MAX,
      discard: options.readOnly ? 'ignore' : 'unmap',
      allocationDepth: options.allocationDepth ?? false,
      bitmap: options.bitmap,
      signal: options.signal,
    })
  try {
    return served(await startPatiently(start, options.modes ?? pastThePageCache, options.signal), socketPath)
  } catch (error) {
    await rm(socketPath, { force: true })
    throw error
  }
}

function served(server: RunningTool, socketPath: string): ServedDisk {
  return {
    endpoint: { type: 'unix', path: socketPath, exportName: EXPORT_NAME },
    pid: server.pid,
    exited: server.exited,
    async close() {
      await server.stop(STOP_GRACE_MS)
      await rm(socketPath, { force: true })
    },
  }
}

type Start = (mode: InputOutput) => Promise<RunningTool>

async function startPatiently(
  start: Start,
  modes: readonly InputOutput[],
  signal: AbortSignal | undefined,
): Promise<RunningTool> {
  const deadline = performance.now() + LOCK_PATIENCE_MS
  for (;;) {
    try {
      return await startInSomeMode(start, modes)
    } catch (error) {
      if (!isLockedError(error)) throw error
      if (performance.now() > deadline) throw stillLocked(error)
      signal?.throwIfAborted()
      await delay(LOCK_POLL_MS)
    }
  }
}

async function startInSomeMode(start: Start, modes: readonly InputOutput[]): Promise<RunningTool> {
  let failure: unknown
  for (const mode of modes) {
    try {
      return await start(mode)
    } catch (error) {
      const otherModeMayHelp = error instanceof HoldfastError && error.code === 'TOOL_FAILED' && !isLockedError(error)
      if (!otherModeMayHelp) throw error
      failure = error
    }
  }
  throw failure
}

function stillLocked(cause: unknown): HoldfastError {
  return new HoldfastError('SOURCE_BUSY', 'Another process has the disk image open. Stop it or wait until it is done.', { cause })
}
