/**
 * One real MariaDB and one real Temporal server for a whole run of the integration tests; each test makes its own database and its
 * own workflow ids on them. Both end with the run, even when it is killed.
 */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { startMariaDb } from '../dev/mariadb.ts'
import { freePort } from '../dev/ports.ts'
import { startTemporalServer } from '../dev/temporal-server.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    /** Unix socket of the run's MariaDB; the user that runs the tests may do everything. */
    mariadbSocket: string
    /** host:port of the run's Temporal server (in memory); namespace `holdfast` with all search attributes. */
    temporalAddress: string
    /** Where golden disks are kept for the run; made by who needs them first. */
    goldenDisksFolder: string
    /** What Holdfast's processes build and keep: the workflows' bundle, the first file system of the reader's kernel. Whole files only. */
    cacheFolder: string
  }
}

/** Called by vitest before the first test; what it returns, after the last. */
export default async function startServers(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-test-servers-'))
  const dataFolder = await roomInMemory()
  const mariadbSocket = join(folder, 'mariadb.sock')
  const cacheFolder = join(folder, 'cache')
  await mkdir(cacheFolder)
  const started = await Promise.allSettled([
    startMariaDb({ dataFolder: join(dataFolder ?? folder, 'mariadb'), socketPath: mariadbSocket, durable: false }),
    freePort().then((port) => startTemporalServer({ folder: null, port, uiPort: null })),
  ])
  const stop = async (): Promise<void> => {
    await Promise.all(started.map((server) => (server.status === 'fulfilled' ? server.value.stop() : Promise.resolve())))
    for (const one of [folder, dataFolder]) if (one !== null) await rm(one, { recursive: true, force: true })
  }
  const failure = started.find((server) => server.status === 'rejected')
  if (failure) {
    await stop()
    throw failure.reason
  }
  project.provide('mariadbSocket', mariadbSocket)
  project.provide('goldenDisksFolder', join(folder, 'golden-disks'))
  project.provide('cacheFolder', cacheFolder)
  const temporal = started[1]
  if (temporal.status === 'fulfilled') project.provide('temporalAddress', temporal.value.address)
  return stop
}

const MEMORY = '/dev/shm'
const PREFIX = 'holdfast-test-'
/** Databases come and go; this is many times what they take at a time. */
const ROOM_BYTES = 2 * 1024 ** 3

/** A folder in memory for tables, which are made and dropped in a third of the time there; `null` where there is little. Those of runs that were killed are removed. */
async function roomInMemory(): Promise<string | null> {
  for (const name of await readdir(MEMORY).catch((): string[] => [])) {
    const pid = name.startsWith(PREFIX) ? Number(name.slice(PREFIX.length).split('-')[0]) : Number.NaN
    if (!Number.isNaN(pid) && !isRunning(pid)) await rm(join(MEMORY, name), { recursive: true, force: true })
  }
  const space = await statfs(MEMORY).catch(() => null)
  if (space === null || space.bavail * space.bsize < ROOM_BYTES) return null
  return mkdtemp(join(MEMORY, `${PREFIX}${process.pid}-`))
}

function isRunning(pid: number): boolean {
  return existsSync(`/proc/${pid}`)
}
