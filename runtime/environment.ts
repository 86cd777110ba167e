/**
 * What every process reads from its environment, checked once at start. Secrets (a password inside `DATABASE_URL`) stay in this
 * object and in the environment of the process: they are never logged and never put on a command line.
 */
import { createHash } from 'node:crypto'
import { userInfo } from 'node:os'
import { resolve } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import { driverNames } from '../domain/restore-mount.ts'
import type { DriverName } from '../domain/restore-mount.ts'

export interface Environment {
  /** All state of the embedded stack; created by it. */
  home: string
  /** `mysql://user:password@host:port/database`, or `mysql://user@localhost/database?socketPath=/…`. */
  databaseUrl: string
  temporalAddress: string
  temporalNamespace: string
  hostId: string
  apiHost: string
  apiPort: number
  logLevel: string
  /** The transfer journal advances at least this often (milliseconds) and at least every so many bytes. */
  checkpointIntervalMs: number
  checkpointIntervalBytes: number
  /** Disks that one repository receives at a time. */
  transfersPerRepository: number
  /** A mover that is silent for so long is taken for dead, and its transfers are resumed elsewhere. */
  heartbeatTimeoutMs: number
  /** All repositories are looked at so often. */
  monitorIntervalSeconds: number
  /** A restore mount ends so long after the last access, and so long after it began whatever happens. */
  mountIdleSeconds: number
  mountMaximumSeconds: number
  /** Restore mounts that this host holds at a time. */
  mountsMax: number
  /** What starts the locker, the program and its first arguments; `null`: our own. See docs/operations.md. */
  lockerCommand: string[] | null
  /** How this host's mover reads disks of backups. Anything but the default is an administrator's choice: see docs/operations.md. */
  mountDriver: DriverName
  /** Where the mover serves files to the API. With anything but loopback it speaks TLS. Port 0: any that is free. */
  filesHost: string
  filesPort: number
}

/** Paths inside `home` that more than one process needs. */
export interface HomeFolders {
  /** Sockets and pid files; emptied at start. Outside `home` when that is too deep for the paths of unix sockets. */
  run: string
  /** Key files, mode 0600. */
  keys: string
  logs: string
  database: string
  temporal: string
  /** Where the demo and a first-time user keep a local repository and restored disks. */
  repository: string
  restores: string
  /** Where the mover mounts shares. */
  mounts: string
}

export function homeFolders(home: string): HomeFolders {
  return {
    run: runFolder(home),
    keys: resolve(home, 'keys'),
    logs: resolve(home, 'logs'),
    database: resolve(home, 'mariadb'),
    temporal: resolve(home, 'temporal'),
    repository: resolve(home, 'repository'),
    restores: resolve(home, 'restores'),
    mounts: resolve(home, 'mounts'),
  }
}

/** The kernel takes unix socket paths of 107 bytes; this much is kept for the names below the run folder. */
const RUN_FOLDER_MAX_BYTES = 107 - 60

/**
 * A pure function of `home` and of who runs us, because every process must find the same sockets: no TMPDIR, no XDG_RUNTIME_DIR.
 * Whoever creates the folder makes it private and checks that it is ours (`dev/state-folders.ts`).
 */
function runFolder(home: string): string {
  const inside = resolve(home, 'run')
  if (Buffer.byteLength(inside) <= RUN_FOLDER_MAX_BYTES) return inside
  const name = `holdfast-${createHash('sha256').update(resolve(home)).digest('hex').slice(0, 12)}`
  return process.getuid?.() === 0 ? `/run/${name}` : `/tmp/${name}`
}

/** Reads and checks the environment. `INVALID_REQUEST` names the variable, what it held and what it should hold. */
export function readEnvironment(variables: NodeJS.ProcessEnv = process.env): Environment {
  const home = resolve(variables['HOLDFAST_HOME'] ?? '.holdfast')
  return {
    home,
    databaseUrl: variables['DATABASE_URL'] ?? embeddedDatabaseUrl(home),
    temporalAddress: variables['TEMPORAL_ADDRESS'] ?? '127.0.0.1:7233',
    temporalNamespace: variables['TEMPORAL_NAMESPACE'] ?? 'holdfast',
    hostId: variables['HOLDFAST_HOST_ID'] ?? 'local',
    apiHost: variables['HOLDFAST_API_HOST'] ?? '127.0.0.1',
    apiPort: wholeNumber(variables, 'HOLDFAST_API_PORT', 8082, 65_535),
    logLevel: variables['HOLDFAST_LOG_LEVEL'] ?? 'info',
    checkpointIntervalMs: wholeNumber(variables, 'HOLDFAST_CHECKPOINT_MS', 5_000, 600_000),
    checkpointIntervalBytes: wholeNumber(variables, 'HOLDFAST_CHECKPOINT_BYTES', 1024 ** 3, Number.MAX_SAFE_INTEGER),
    transfersPerRepository: wholeNumber(variables, 'HOLDFAST_TRANSFERS_PER_REPOSITORY', 2, 64),
    heartbeatTimeoutMs: wholeNumber(variables, 'HOLDFAST_HEARTBEAT_TIMEOUT_MS', 30_000, 3_600_000),
    monitorIntervalSeconds: wholeNumber(variables, 'HOLDFAST_MONITOR_INTERVAL_SECONDS', 300, 86_400, 5),
    mountIdleSeconds: wholeNumber(variables, 'HOLDFAST_MOUNT_IDLE_SECONDS', 3_600, 604_800),
    mountMaximumSeconds: wholeNumber(variables, 'HOLDFAST_MOUNT_MAXIMUM_SECONDS', 86_400, 2_592_000),
    mountsMax: wholeNumber(variables, 'HOLDFAST_MOUNTS_MAX', 64, 1_000),
    lockerCommand: lockerCommand(variables['HOLDFAST_LOCKER']),
    mountDriver: mountDriver(variables['HOLDFAST_MOUNT_DRIVER']),
    filesHost: variables['HOLDFAST_FILES_HOST'] ?? '127.0.0.1',
    filesPort: wholeNumber(variables, 'HOLDFAST_FILES_PORT', 0, 65_535, 0),
  }
}

/** The private MariaDB: reached by unix socket as the user that runs it, so there is no password to keep. */
export function embeddedDatabaseUrl(home: string): string {
  const socket = resolve(homeFolders(home).run, 'mariadb.sock')
  return `mysql://${encodeURIComponent(userInfo().username)}@localhost/holdfast?socketPath=${encodeURIComponent(socket)}`
}

/** Words between spaces: a path with a space in it goes into a script of its own. */
function lockerCommand(text: string | undefined): string[] | null {
  const words = (text ?? '').split(' ').filter((word) => word !== '')
  return words.length === 0 ? null : words
}

function mountDriver(text: string | undefined): DriverName {
  const name = driverNames.find((candidate) => candidate === (text || 'user-mode-linux'))
  if (name) return name
  throw new HoldfastError('INVALID_REQUEST', `HOLDFAST_MOUNT_DRIVER is "${text}": give ${driverNames.join(', ')}.`)
}

function wholeNumber(variables: NodeJS.ProcessEnv, name: string, fallback: number, max: number, min = 1): number {
  const text = variables[name]
  if (text === undefined || text === '') return fallback
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw new HoldfastError('INVALID_REQUEST', `${name} is "${text}": give a whole number from ${min} to ${max}.`)
  }
  return value
}
