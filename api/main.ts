/**
 * The API process. It starts whatever is up: while MariaDB or Temporal is away it answers 503 to what needs them and
 * says so under /health, and goes on by itself when they are back.
 */
import { createAdaptorServer } from '@hono/node-server'
import type { ServerType } from '@hono/node-server'
import { createCatalog } from '../db/client.ts'
import { listCredentials } from '../db/queries/credentials.ts'
import type { SealedCredentials } from '../db/queries/credentials.ts'
import { staleAfterMs } from '../domain/storage-health.ts'
import { homeFolders, readEnvironment } from '../runtime/environment.ts'
import type { Logger } from '../runtime/logger.ts'
import { createLogger } from '../runtime/logger.ts'
import { createShutdown } from '../runtime/shutdown.ts'
import type { Shutdown } from '../runtime/shutdown.ts'
import { untilReachable } from '../runtime/until-reachable.ts'
import { prepareCredentialsKey } from '../security/credentials-at-start.ts'
import { createLoginThrottle } from '../security/login-throttle.ts'
import { loadFilesKey } from '../security/signed-requests.ts'
import { loadSessionKey } from '../security/session-key.ts'
import { createSessions } from '../security/sessions.ts'
import { createOperations } from '../temporal/client-operations.ts'
import { connectTemporal } from '../temporal/connection.ts'
import { createApp } from './app.ts'
import type { ApiDependencies } from './dependencies.ts'
import { forgetExpiredKeys } from './middleware/idempotency.ts'
import { createMoverFiles } from './mover-files.ts'

/** Requests under way when we are told to stop get this long. What waits for a workflow is cut: the workflow goes on, and its id is kept. */
const DRAIN_MS = 2_000
const FORGET_KEYS_EVERY_MS = 3_600_000
/** Paths of files stand in the query: 4096 bytes, each as three characters, and what comes with them. */
const REQUEST_HEAD_MAX_BYTES = 64 * 1024

const environment = readEnvironment()
const logger = createLogger('api', environment.logLevel)
const shutdown = createShutdown({ logger })

const catalog = createCatalog(environment.databaseUrl, { acquireMs: 5_000 })
shutdown.add('catalog', () => catalog.destroy())
const temporal = connectTemporal(environment)
shutdown.add('temporal', () => temporal.connection.close())

const keysFolder = homeFolders(environment.home).keys
const moverFiles = createMoverFiles(catalog, await loadFilesKey(keysFolder))
shutdown.add('mover files', () => moverFiles.close())

const dependencies: ApiDependencies = {
  catalog,
  operations: createOperations(temporal, environment),
  sessions: createSessions({ key: await loadSessionKey(keysFolder) }),
  throttle: createLoginThrottle(),
  logger,
  hostId: environment.hostId,
  keysFolder,
  moverFiles,
  mountLease: { idleMs: environment.mountIdleSeconds * 1000, maximumMs: environment.mountMaximumSeconds * 1000 },
  staleAfterMs: staleAfterMs(environment.monitorIntervalSeconds),
  now: () => new Date(),
}
forgetKeysNowAndThen(dependencies, shutdown)
await checkCredentialsKey(dependencies, shutdown)
const server = createAdaptorServer({
  fetch: createApp(dependencies).fetch,
  serverOptions: { maxHeaderSize: REQUEST_HEAD_MAX_BYTES },
})
server.on('error', (error) => {
  logger.fatal({ err: error, host: environment.apiHost, port: environment.apiPort }, 'the API cannot listen: is the port in use?')
  void shutdown.begin('cannot listen', 1)
})
server.listen(environment.apiPort, environment.apiHost, () => {
  shutdown.add('http server', () => drain(server, logger))
  logger.info({ listening: server.address() }, 'ready')
})

/** A key that does not fit the catalog ends the process, at once or, while MariaDB is away, when it is back. */
async function checkCredentialsKey(given: ApiDependencies, end: Shutdown): Promise<void> {
  const check = async (rows: SealedCredentials[]): Promise<void> => {
    try {
      for (const warning of await prepareCredentialsKey(given.keysFolder, rows)) given.logger.warn(warning)
    } catch (error) {
      given.logger.fatal({ err: error }, 'the API cannot work with the key of the stored credentials')
      await end.begin('credentials key', 1)
    }
  }
  const list = () => listCredentials(given.catalog)
  const rows = await list().catch(() => undefined)
  if (rows) return check(rows)
  untilReachable(given.logger, end.signal, 'The catalog', list).then(check, () => {
    // Told to stop meanwhile.
  })
}

/** Takes no more connections, lets running requests end, then cuts what is left. */
async function drain(running: ServerType, log: Logger): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  running.close(() => resolve())
  if ('closeIdleConnections' in running) running.closeIdleConnections()
  const deadline = setTimeout(() => {
    log.warn({ drainMs: DRAIN_MS }, 'requests still running are cut')
    if ('closeAllConnections' in running) running.closeAllConnections()
  }, DRAIN_MS)
  await promise
  clearTimeout(deadline)
}

function forgetKeysNowAndThen(given: ApiDependencies, end: Shutdown): void {
  const timer = setInterval(() => {
    // Missing one round costs nothing: an expired key is also refused when it is read.
    forgetExpiredKeys(given).catch((error: unknown) => given.logger.warn({ err: error }, 'expired idempotency keys stay for now'))
  }, FORGET_KEYS_EVERY_MS)
  end.add('idempotency keys', () => clearInterval(timer))
}
