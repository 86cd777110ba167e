/** A private Temporal server: the command line's development server, on loopback, in a SQLite file or in memory. */
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Connection } from '@temporalio/client'
import { HoldfastError } from '../domain/errors.ts'
import { ensureNamespace } from '../temporal/search-attributes.ts'
import { startTool, unexpectedExit } from '../tools/run-tool.ts'
import type { RunningTool, ToolExit } from '../tools/run-tool.ts'
import { accepts } from './ports.ts'

export interface TemporalServerOptions {
  /** Holds the SQLite file, which makes workflows survive a restart; `null` keeps everything in memory. */
  folder: string | null
  port: number
  /** `null`: no Web UI. */
  uiPort: number | null
  /** Made ready, with its search attributes; default `holdfast`. */
  namespace?: string | undefined
  /** Stops waiting, and the server. */
  signal?: AbortSignal | undefined
  onProgress?: ((text: string) => void) | undefined
  /** What the server says, as it comes. */
  onOutput?: ((text: string) => void) | undefined
}

export interface RunningTemporalServer {
  /** host:port of its gRPC endpoint. */
  readonly address: string
  readonly pid: number
  readonly exited: Promise<ToolExit>
  stop(graceMs?: number): Promise<void>
}

const HOST = '127.0.0.1'
const READY_TIMEOUT_MS = 60_000
const READY_POLL_MS = 50
const STOP_GRACE_MS = 10_000

/** Where `dev/bootstrap.sh` puts it; `TEMPORAL_CLI_PATH` names another one. */
function temporalProgram(): string {
  return process.env['TEMPORAL_CLI_PATH'] ?? resolve(import.meta.dirname, '../.tools/temporal/bin/temporal')
}

/**
 * Starts the server and resolves when the namespace with all search attributes is ready for workflows.
 * `TOOL_MISSING`, `TOOL_FAILED` with the server's last words, `ORCHESTRATOR_UNAVAILABLE`.
 */
export async function startTemporalServer(options: TemporalServerOptions): Promise<RunningTemporalServer> {
  options.signal?.throwIfAborted()
  if (options.folder !== null) await mkdir(options.folder, { recursive: true, mode: 0o700 })
  options.onProgress?.('starting Temporal')
  const server = startTool(temporalProgram(), serverArguments(options), { onOutput: options.onOutput, ownSession: true })
  try {
    await untilReady(server, options)
  } catch (error) {
    await server.stop(STOP_GRACE_MS)
    throw error
  }
  return {
    address: `${HOST}:${options.port}`,
    pid: server.pid,
    exited: server.exited,
    stop: (graceMs = STOP_GRACE_MS) => server.stop(graceMs),
  }
}

function serverArguments({ folder, port, uiPort }: TemporalServerOptions): string[] {
  return [
    'server',
    'start-dev',
    // A person's settings for other Temporal servers are not for this one.
    '--disable-config-env',
    '--disable-config-file',
    `--ip=${HOST}`,
    `--port=${port}`,
    '--log-level=warn',
    '--log-format=json',
    ...(folder === null ? [] : fileArguments(folder)),
    ...(uiPort === null ? ['--headless'] : [`--ui-port=${uiPort}`, `--ui-ip=${HOST}`, '--ui-disable-news-fetch']),
  ]
}

/** With these two, 2.5 times as many workflows a second as with the defaults. A killed server loses nothing; a power cut at most its last moments. */
function fileArguments(folder: string): string[] {
  return [
    `--db-filename=${join(folder, 'temporal.sqlite')}`,
    '--sqlite-pragma=journal_mode=WAL',
    '--sqlite-pragma=synchronous=NORMAL',
  ]
}

async function untilReady(server: RunningTool, { port, namespace = 'holdfast', signal }: TemporalServerOptions): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS
  let ended = false
  void server.exited.then(() => (ended = true))
  for (;;) {
    signal?.throwIfAborted()
    if (ended) throw await unexpectedExit(server)
    const refusal = await tryNamespace(port, namespace)
    if (refusal === undefined) return
    if (performance.now() > deadline) {
      throw new HoldfastError('ORCHESTRATOR_UNAVAILABLE', `Temporal did not answer within ${READY_TIMEOUT_MS} ms.`, {
        cause: refusal.reason,
      })
    }
    await delay(READY_POLL_MS)
  }
}

/** What kept the namespace from being ready, or undefined. */
async function tryNamespace(port: number, namespace: string): Promise<{ reason: unknown } | undefined> {
  // Asked first, because the client waits a whole second after a refused connection.
  if (!(await accepts(port))) return { reason: new Error(`nothing accepts connections on port ${port}`) }
  let connection: Connection | undefined
  try {
    connection = await Connection.connect({ address: `${HOST}:${port}`, connectTimeout: 2_000 })
    await ensureNamespace(connection, namespace)
    return undefined
  } catch (reason) {
    return { reason }
  } finally {
    await connection?.close()
  }
}
