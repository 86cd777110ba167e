/** The control worker: all workflows, and the short steps that need only the catalog. Stopping it interrupts no transfer. */
import { resolve } from 'node:path'
import { createControlActivities } from '../activities/index.ts'
import { createCatalog } from '../db/client.ts'
import { readEnvironment } from '../runtime/environment.ts'
import type { Environment } from '../runtime/environment.ts'
import { createLogger } from '../runtime/logger.ts'
import type { Logger } from '../runtime/logger.ts'
import { createShutdown } from '../runtime/shutdown.ts'
import type { Shutdown } from '../runtime/shutdown.ts'
import { untilReachable } from '../runtime/until-reachable.ts'
import { connectTemporal } from '../temporal/connection.ts'
import { createRunningWorkflows } from '../temporal/running-workflows.ts'
import { scheduleLockAttestation, scheduleReconcile, scheduleStorageMonitor } from '../temporal/schedules.ts'
import { ensureNamespace } from '../temporal/search-attributes.ts'
import { CONTROL_QUEUE } from '../temporal/task-queues.ts'
import { workflowBundle } from './bundle.ts'
import { runWorker } from './running-worker.ts'
import { connectWorkers, installTemporalRuntime } from './temporal-runtime.ts'

/** Workflows kept in memory between their tasks; the others are replayed from their histories when they go on. */
const CACHED_WORKFLOWS = 500

const environment = readEnvironment()
const logger = createLogger('control', environment.logLevel)
const shutdown = createShutdown({ logger, deadlineMs: 20_000 })
try {
  await start(environment, logger, shutdown)
  logger.info('ready')
} catch (error) {
  if (!shutdown.signal.aborted) logger.fatal({ err: error }, 'the control worker could not start')
  await shutdown.begin('could not start', 1)
}

async function start(environment: Environment, logger: Logger, shutdown: Shutdown): Promise<void> {
  const sdkLogger = installTemporalRuntime(logger)
  const catalog = createCatalog(environment.databaseUrl)
  shutdown.add('catalog', () => catalog.destroy())
  const client = connectTemporal(environment)
  shutdown.add('temporal client', () => client.connection.close())
  const connection = await connectWorkers(environment, logger, shutdown.signal)
  shutdown.add('temporal connection', () => connection.close())
  const { temporalNamespace: namespace, heartbeatTimeoutMs } = environment
  await untilReachable(logger, shutdown.signal, `Namespace "${namespace}"`, () => ensureNamespace(client.connection, namespace))

  const codePath = await workflowBundle(resolve(environment.home, 'cache'), sdkLogger)
  const worker = await runWorker(
    {
      connection,
      namespace,
      taskQueue: CONTROL_QUEUE,
      workflowBundle: { codePath },
      activities: createControlActivities({ catalog, workflows: createRunningWorkflows(client) }),
      maxCachedWorkflows: CACHED_WORKFLOWS,
      maxHeartbeatThrottleInterval: '3s',
    },
    (error) => {
      logger.fatal({ err: error }, 'the worker stopped by itself')
      void shutdown.begin('worker failed', 1)
    },
  )
  shutdown.add('worker', () => worker.stop())
  await scheduleReconcile(client, { heartbeatTimeoutMs })
  await scheduleLockAttestation(client, { heartbeatTimeoutMs })
  await scheduleStorageMonitor(client, { intervalSeconds: environment.monitorIntervalSeconds, heartbeatTimeoutMs })
}
