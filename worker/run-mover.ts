/**
 * The mover of one data host: the process that touches disks. It runs no workflow code, so deploying workflows never interrupts it.
 * Stopped, it leaves a checkpoint of every transfer; killed, it leaves the last one, and its programs die with it.
 */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { createHostActivities } from '../activities/index.ts'
import type { HostDependencies } from '../activities/host-dependencies.ts'
import { createMountHoldingActivities, interruptMounts } from '../activities/restore-mounts.ts'
import { ProgressBoard } from '../activities/progress-board.ts'
import { processRunFolder, removeDeadRunFolders } from '../activities/run-folders.ts'
import { createLookActivities } from '../activities/storage-monitoring.ts'
import { createSourceFinder, createSourceOpener } from '../activities/source-connections.ts'
import { createTransferActivities } from '../activities/transfers.ts'
import { createCatalog } from '../db/client.ts'
import { listCredentialsOfHost } from '../db/queries/credentials.ts'
import { repositoryIdsOfHost } from '../db/queries/registration.ts'
import { createMountOpener } from '../mounts/open-restore-mount.ts'
import { settlesWithin, type Deadlines } from '../hosting/deadlines.ts'
import { OpenMounts } from '../mounts/open-mounts.ts'
import type { Mounter } from '../repositories/share-mounts.ts'
import { homeFolders, readEnvironment } from '../runtime/environment.ts'
import type { Environment } from '../runtime/environment.ts'
import { createLogger } from '../runtime/logger.ts'
import type { Logger } from '../runtime/logger.ts'
import { createShutdown } from '../runtime/shutdown.ts'
import type { Shutdown } from '../runtime/shutdown.ts'
import { untilReachable } from '../runtime/until-reachable.ts'
import { credentialsWarnings } from '../security/credentials-at-start.ts'
import { connectTemporal } from '../temporal/connection.ts'
import { triggerStorageMonitor } from '../temporal/schedules.ts'
import { hostQueue, lookQueue, mountQueue } from '../temporal/task-queues.ts'
import { createLocker } from '../tools/locker.ts'
import { qemuVersion } from '../tools/qemu-img.ts'
import { serveMountedFiles } from './file-serving.ts'
import { mountAtStart } from './mount-at-start.ts'
import { createRepositoryHost } from './repository-hosting.ts'
import { runWorker } from './running-worker.ts'
import { connectWorkers, installTemporalRuntime } from './temporal-runtime.ts'
import { TransferWorkers } from './transfer-workers.ts'

/** Short steps, verifications and restores at a time. */
const HOST_SLOTS = 20
/** Looks at repositories at a time: one that is dead takes its slot for some seconds. */
const LOOK_SLOTS = 100
/** For all mounts together, when the mover stops. */
const MOUNTS_CLOSE_MS = 10_000
/** Beside the mounts that may be held at a time, those that just end. */
const ENDING_MOUNTS = 20

export interface MoverOptions {
  /** Instead of mount(8), for tests. */
  mounter?: Mounter
  /** Instead of the usual ones, for tests. */
  deadlines?: Deadlines
}

/** Runs the mover of this process until a signal stops it. `thread-pool.ts` must have been imported before anything else. */
export async function runMover(options: MoverOptions = {}): Promise<void> {
  const environment = readEnvironment()
  const logger = createLogger('mover', environment.logLevel)
  const shutdown = createShutdown({ logger, deadlineMs: 20_000 })
  try {
    await start({ environment, logger, shutdown, options })
    logger.info({ hostId: environment.hostId }, 'ready')
  } catch (error) {
    if (!shutdown.signal.aborted) logger.fatal({ err: error }, 'the mover could not start')
    await shutdown.begin('could not start', 1)
  }
}

interface Start {
  environment: Environment
  logger: Logger
  shutdown: Shutdown
  options: MoverOptions
}

async function start({ environment, logger, shutdown, options }: Start): Promise<void> {
  installTemporalRuntime(logger)
  const { hostId, temporalNamespace: namespace, transfersPerRepository } = environment
  const catalog = createCatalog(environment.databaseUrl)
  shutdown.add('catalog', () => catalog.destroy())
  const progress = new ProgressBoard(catalog, logger)
  shutdown.add('progress', () => progress.close())
  const connection = await connectWorkers(environment, logger, shutdown.signal)
  shutdown.add('temporal connection', () => connection.close())
  const { run: homeRunFolder, keys: keysFolder } = homeFolders(environment.home)
  const sealed = await untilReachable(logger, shutdown.signal, 'The catalog', () => listCredentialsOfHost(catalog, hostId))
  for (const warning of await credentialsWarnings(keysFolder, sealed)) logger.warn(warning)
  await removeDeadRunFolders(homeRunFolder)

  const fail = (error: unknown): void => {
    logger.fatal({ err: error }, 'a worker stopped by itself')
    void shutdown.begin('worker failed', 1)
  }
  const common = { connection, namespace, maxHeartbeatThrottleInterval: '3s' } as const
  const { repositories, desk } = createRepositoryHost({ environment, catalog, logger, options })
  // After everything that uses them. Never waits for storage.
  shutdown.add('repositories', () => repositories.close())
  const attachRepository = (id: string): Promise<void> => transfers.attach(id)
  const detachRepository = (id: string): Promise<void> => transfers.detach(id)
  const dependencies = await hostDependencies({
    environment,
    catalog,
    progress,
    repositories,
    attachRepository,
    detachRepository,
  })
  const transfers = new TransferWorkers(
    hostId,
    {
      ...common,
      activities: createTransferActivities(dependencies),
      maxConcurrentActivityTaskExecutions: transfersPerRepository,
      // Many repositories, mostly idle: one open question each is enough.
      activityTaskPollerBehavior: { type: 'simple-maximum', maximum: 1 },
    },
    fail,
  )
  shutdown.add('transfers', () => transfers.stop())
  const repositoryIds = await untilReachable(logger, shutdown.signal, 'The catalog', () => repositoryIdsOfHost(catalog, hostId))
  void mountAtStart({ catalog, hostId, repositoryIds, repositories, desk, logger })
  await Promise.all(repositoryIds.map((id) => transfers.attach(id)))

  await serveMountedFiles(environment, { catalog, mounts: dependencies.mounts, logger, shutdown })
  // What the steps below still open while they end is closed after them.
  // An exporter whose repository hangs does not end, and is not waited for: nothing of it can write.
  shutdown.add('mounts', async () => void (await settlesWithin(interruptMounts(dependencies), MOUNTS_CLOSE_MS)))
  const activities = createHostActivities({ ...dependencies, homeRunFolder })
  const host = await runWorker(
    { ...common, taskQueue: hostQueue(hostId), activities: { ...activities }, maxConcurrentActivityTaskExecutions: HOST_SLOTS },
    fail,
  )
  shutdown.add('host steps', () => host.stop())
  const looks = await runWorker(
    {
      ...common,
      taskQueue: lookQueue(hostId),
      activities: { ...createLookActivities(dependencies) },
      maxConcurrentActivityTaskExecutions: LOOK_SLOTS,
      activityTaskPollerBehavior: { type: 'simple-maximum', maximum: 1 },
    },
    fail,
  )
  shutdown.add('looks', () => looks.stop())
  await lookAgain(environment, logger)
  const holding = await runWorker(
    {
      ...common,
      taskQueue: mountQueue(hostId),
      activities: { ...createMountHoldingActivities(dependencies) },
      maxConcurrentActivityTaskExecutions: environment.mountsMax + ENDING_MOUNTS,
    },
    fail,
  )
  shutdown.add('held mounts', () => holding.stop())
}

/** What nobody could look at while this mover was away is known again at once. The next period brings it anyway. */
async function lookAgain(environment: Environment, logger: Logger): Promise<void> {
  const client = connectTemporal(environment)
  try {
    await triggerStorageMonitor(client)
  } catch (error) {
    logger.warn({ err: error }, 'the look at the repositories has to wait for its time')
  } finally {
    await client.connection.close()
  }
}

type Given = Pick<HostDependencies, 'catalog' | 'progress' | 'repositories' | 'attachRepository' | 'detachRepository'> & {
  environment: Environment
}

async function hostDependencies({ environment, ...given }: Given): Promise<HostDependencies> {
  const { hostId, checkpointIntervalMs, checkpointIntervalBytes } = environment
  const { run, keys, mounts: mountsFolder } = homeFolders(environment.home)
  const runFolder = processRunFolder(run)
  const sources = { catalog: given.catalog, keysFolder: keys, runFolder }
  const mounts = new OpenMounts(environment.mountsMax)
  return {
    ...given,
    hostId,
    sourceOf: createSourceFinder(sources),
    openSource: createSourceOpener(sources),
    mounts,
    openRestoreMount: createMountOpener({
      driver: environment.mountDriver,
      runFolder,
      cacheFolder: resolve(environment.home, 'cache'),
    }),
    locker: createLocker(environment.lockerCommand ?? undefined),
    mountsFolder,
    runFolder,
    versions: { holdfast: await ownVersion(), qemu: await qemuVersion() },
    checkpointIntervalMs,
    checkpointIntervalBytes,
  }
}

async function ownVersion(): Promise<string> {
  const manifest: unknown = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'))
  const version = typeof manifest === 'object' && manifest !== null && 'version' in manifest ? manifest.version : undefined
  return typeof version === 'string' ? version : 'unknown'
}
