/** A private MariaDB: one data folder, one unix socket, no network, no password (the socket knows who connects). */
import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createConnection } from 'mysql2/promise'
import { HoldfastError } from '../domain/errors.ts'
import { runTool, startTool, unexpectedExit } from '../tools/run-tool.ts'
import type { RunningTool, ToolExit } from '../tools/run-tool.ts'

export interface MariaDbOptions {
  /** Created and filled when it does not exist. */
  dataFolder: string
  /** At most 107 bytes. */
  socketPath: string
  /** `false`, for tests: what was confirmed outlives the server, but not a loss of power. A commit then costs a tenth. */
  durable?: boolean | undefined
  /** Stops waiting, and the server. */
  signal?: AbortSignal | undefined
  /** What is being done, for people who wait. */
  onProgress?: ((text: string) => void) | undefined
  /** What the server says, as it comes. */
  onOutput?: ((text: string) => void) | undefined
}

export interface RunningMariaDb {
  /** `DATABASE_URL` of a database on it; the database itself need not exist. */
  url(database: string): string
  readonly pid: number
  readonly exited: Promise<ToolExit>
  /** Shuts it down; kills it after `graceMs`, which costs nothing but the time of crash recovery at the next start. */
  stop(graceMs?: number): Promise<void>
}

const INSTALL_TIMEOUT_MS = 120_000
/** Crash recovery counts: it may have much to replay. */
const READY_TIMEOUT_MS = 300_000
const READY_POLL_MS = 50
const STOP_GRACE_MS = 10_000

/**
 * Starts the server and resolves when it answers queries. Crash recovery is part of it, so it may follow a `kill -9` at once.
 * `TOOL_MISSING`, `TOOL_FAILED` with the server's last words, `TOOL_TIMEOUT`.
 */
export async function startMariaDb(options: MariaDbOptions): Promise<RunningMariaDb> {
  options.signal?.throwIfAborted()
  await createDataFolder(options)
  await mkdir(temporaryFolder(options.dataFolder), { recursive: true, mode: 0o700 })
  const server = startTool('mariadbd', serverArguments(options), { onOutput: options.onOutput, ownSession: true })
  try {
    await untilReady(server, options)
  } catch (error) {
    await server.stop(STOP_GRACE_MS)
    throw error
  }
  return {
    url: (database) => socketUrl(options.socketPath, database),
    pid: server.pid,
    exited: server.exited,
    stop: (graceMs = STOP_GRACE_MS) => server.stop(graceMs),
  }
}

function temporaryFolder(dataFolder: string): string {
  return `${dataFolder}.temporary`
}

function socketUrl(socketPath: string, database: string): string {
  return `mysql://${encodeURIComponent(userInfo().username)}@localhost/${database}?socketPath=${encodeURIComponent(socketPath)}`
}

/** Filled beside its place and renamed, so that an interrupted creation is never taken for a database. */
async function createDataFolder({ dataFolder, durable, signal, onProgress }: MariaDbOptions): Promise<void> {
  if (await stat(dataFolder).catch(() => undefined)) return
  onProgress?.('creating the catalog database')
  const unfinished = `${dataFolder}.unfinished`
  await rm(unfinished, { recursive: true, force: true })
  await mkdir(dirname(dataFolder), { recursive: true })
  await mkdir(unfinished, { mode: 0o700 })
  const owner = userInfo().username
  await runTool(
    'mariadb-install-db',
    [
      '--no-defaults',
      `--datadir=${unfinished}`,
      `--user=${owner}`,
      '--auth-root-authentication-method=socket',
      `--auth-root-socket-user=${owner}`,
      `--tmpdir=${unfinished}`,
      '--skip-test-db',
      // Even where the machine's own name cannot be looked up: nobody connects by a name.
      '--force',
      ...storageArguments(durable),
    ],
    { timeoutMs: INSTALL_TIMEOUT_MS, signal },
  )
  await rename(unfinished, dataFolder)
}

/** Every commit is on the disk before it is confirmed; the rest is sized for a catalog, not for a data warehouse. */
function storageArguments(durable = true): string[] {
  const writing = durable
    ? ['--innodb-flush-log-at-trx-commit=1']
    : ['--innodb-flush-log-at-trx-commit=2', '--innodb-flush-method=nosync', '--innodb-doublewrite=0', '--debug-no-sync']
  return [...writing, '--innodb-log-file-size=48M', '--innodb-buffer-pool-size=128M']
}

function serverArguments({ dataFolder, socketPath, durable }: MariaDbOptions): string[] {
  return [
    // First, or it is ignored: the machine's own configuration is not for us.
    '--no-defaults',
    `--datadir=${dataFolder}`,
    `--socket=${socketPath}`,
    `--pid-file=${socketPath}.pid`,
    // Its own: a starting server deletes every temporary table it finds, also those that another server on /tmp is reading.
    `--tmpdir=${temporaryFolder(dataFolder)}`,
    // Refused as root otherwise; a private server has no better user to be.
    `--user=${userInfo().username}`,
    '--skip-networking',
    '--skip-name-resolve',
    '--local-infile=0',
    '--character-set-server=utf8mb4',
    '--default-time-zone=+00:00',
    '--max-connections=200',
    '--max-allowed-packet=64M',
    ...storageArguments(durable),
  ]
}

async function untilReady(server: RunningTool, { socketPath, signal, onProgress }: MariaDbOptions): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS
  let ended = false
  void server.exited.then(() => (ended = true))
  onProgress?.('starting MariaDB')
  for (;;) {
    signal?.throwIfAborted()
    if (ended) throw await unexpectedExit(server)
    const refusal = await tryConnection(socketPath)
    if (refusal === undefined) return
    if (performance.now() > deadline) {
      throw new HoldfastError('TOOL_TIMEOUT', `mariadbd did not answer within ${READY_TIMEOUT_MS} ms: ${refusal.message}`, {
        cause: refusal,
      })
    }
    await delay(READY_POLL_MS)
  }
}

/** The failure of a real connection, or undefined when the server answered a query. */
async function tryConnection(socketPath: string): Promise<Error | undefined> {
  try {
    const connection = await createConnection({ socketPath, user: userInfo().username, connectTimeout: 2_000 })
    // The query below reports what goes wrong; without a listener, a server that dies just now would end our process.
    connection.on('error', () => {})
    await connection.query('select 1')
    await connection.end()
    return undefined
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}
