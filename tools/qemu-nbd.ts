/** `qemu-nbd`: serves a block graph on a unix socket. */
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError, type JsonObject } from '../domain/errors.ts'
import { startTool, unexpectedExit, type RunningTool } from './run-tool.ts'

/** `sun_path` of a unix socket holds 108 bytes with its end mark. */
export const SOCKET_PATH_MAX_BYTES = 107

const READY_MS = 30_000
const READY_POLL_MS = 5
const STOP_GRACE_MS = 10_000

/**
 * qemu-nbd allocates a buffer per request. With glibc's defaults each goes back to the kernel and comes again page by page, which costs
 * 40 % of its processor time when writing (measured); kept, it is a few MiB.
 */
const memoryKept = { MALLOC_MMAP_THRESHOLD_: '33554432', MALLOC_TRIM_THRESHOLD_: '67108864', MALLOC_ARENA_MAX: '1' }

export interface QemuNbdOptions {
  /** The explicit graph, or a file of a known format whose own references are followed. */
  blockGraph: JsonObject | { filename: string; format: string }
  socketPath: string
  exportName: string
  readOnly: boolean
  /** Clients that may be connected at once. */
  connections: number
  /** `none` bypasses the page cache (O_DIRECT). Both write back only on FLUSH; `unsafe` is not offered. */
  cache: 'none' | 'writeback'
  aio: 'threads' | 'native' | 'io_uring'
  /** Whether zeroes may give space back. */
  discard?: 'unmap' | 'ignore'
  /** Offers the metadata context `qemu:allocation-depth`. Default `false`. */
  allocationDepth?: boolean
  /** Offers this persistent bitmap of the image as the metadata context `qemu:dirty-bitmap:<name>`. */
  bitmap?: string | undefined
  /** Aborts the start only; a running server is stopped by its owner, after what must still be flushed. */
  signal?: AbortSignal | undefined
}

/**
 * Starts a server and resolves when its socket accepts. `TOOL_FAILED` with the server's words when it ends instead (locked image,
 * O_DIRECT or io_uring refused, damaged header …), `TOOL_TIMEOUT` after 30 s, `INVALID_REQUEST` when the socket's path is too long.
 */
export async function startQemuNbd(options: QemuNbdOptions): Promise<RunningTool> {
  if (Buffer.byteLength(options.socketPath) > SOCKET_PATH_MAX_BYTES) throw pathTooLong(options.socketPath)
  options.signal?.throwIfAborted()
  const server = startTool('qemu-nbd', qemuNbdArguments(options), { env: memoryKept })
  try {
    await accepting(server, options)
    return server
  } catch (error) {
    await server.stop(STOP_GRACE_MS)
    throw error
  }
}

/** The command line, also for a machine where others start it. */
export function qemuNbdArguments(options: Omit<QemuNbdOptions, 'signal'>): string[] {
  return [
    '--persistent',
    `--shared=${options.connections}`,
    `--socket=${options.socketPath}`,
    `--export-name=${options.exportName}`,
    `--cache=${options.cache}`,
    `--aio=${options.aio}`,
    `--discard=${options.discard ?? 'ignore'}`,
    ...(options.readOnly ? ['--read-only'] : []),
    ...(options.allocationDepth ? ['--allocation-depth'] : []),
    ...(options.bitmap === undefined ? [] : [`--bitmap=${options.bitmap}`]),
    '--',
    `json:${JSON.stringify(asGraph(options.blockGraph))}`,
  ]
}

function asGraph(graph: QemuNbdOptions['blockGraph']): JsonObject {
  const { filename, format } = graph
  return filename === undefined || format === undefined ? graph : { driver: format, file: { driver: 'file', filename } }
}

async function accepting(server: RunningTool, options: QemuNbdOptions): Promise<void> {
  const ended = new AbortController()
  void server.exited.then(() => ended.abort())
  const { signal } = options
  const enough = signal ? AbortSignal.any([signal, ended.signal]) : ended.signal
  const deadline = performance.now() + READY_MS
  // There is no event for "a socket accepts" but a connection that succeeds.
  while (!(await accepts(options.socketPath, enough))) {
    signal?.throwIfAborted()
    if (ended.signal.aborted) throw await unexpectedExit(server)
    if (performance.now() > deadline) {
      throw new HoldfastError('TOOL_TIMEOUT', `qemu-nbd did not open its socket within ${READY_MS} ms.`, {
        details: { program: 'qemu-nbd', timeoutMs: READY_MS },
      })
    }
    await delay(READY_POLL_MS)
  }
}

/** `false` also as soon as `enough` aborts: a server that accepts may still be silent. */
function accepts(socketPath: string, enough: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath)
    const refused = (): void => answer(false)
    const answer = (accepted: boolean): void => {
      enough.removeEventListener('abort', refused)
      socket.destroy()
      resolve(accepted)
    }
    // The greeting, not the connection: the kernel connects before qemu-nbd runs its main loop, and a SIGTERM until then is lost on it.
    socket.once('data', () => answer(true))
    socket.once('error', refused)
    socket.once('close', refused)
    socket.setTimeout(READY_MS, refused)
    enough.addEventListener('abort', refused, { once: true })
    if (enough.aborted) refused()
  })
}

function pathTooLong(path: string): HoldfastError {
  return new HoldfastError(
    'INVALID_REQUEST',
    `The socket path "${path}" is longer than the ${SOCKET_PATH_MAX_BYTES} bytes that unix sockets allow. Choose a shorter HOLDFAST_HOME.`,
    { details: { path } },
  )
}
