/**
 * One real MariaDB and one real Temporal server for a whole run of the integration tests; each test makes its own database and its
 * own workflow ids on them. Both end with the run, even when it is killed.
 */
import { mkdtemp, rm } from 'node:fs/promises'
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
  }
}

/** Called by vitest before the first test; what it returns, after the last. */
export default async function startServers(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-test-servers-'))
  const mariadbSocket = join(folder, 'mariadb.sock')
  const started = await Promise.allSettled([
    startMariaDb({ dataFolder: join(folder, 'mariadb'), socketPath: mariadbSocket }),
    freePort().then((port) => startTemporalServer({ folder: null, port, uiPort: null })),
  ])
  const stop = async (): Promise<void> => {
    await Promise.all(started.map((server) => (server.status === 'fulfilled' ? server.value.stop() : Promise.resolve())))
    await rm(folder, { recursive: true, force: true })
  }
  const failure = started.find((server) => server.status === 'rejected')
  if (failure) {
    await stop()
    throw failure.reason
  }
  project.provide('mariadbSocket', mariadbSocket)
  const temporal = started[1]
  if (temporal.status === 'fulfilled') project.provide('temporalAddress', temporal.value.address)
  return stop
}
