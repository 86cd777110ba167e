/** The Temporal SDK inside our processes: its log lines are ours, and it leaves the stop signals to us. */
import { DefaultLogger, NativeConnection, Runtime } from '@temporalio/worker'
import type { LogLevel, Logger as SdkLogger } from '@temporalio/worker'
import type { Environment } from '../runtime/environment.ts'
import type { Logger } from '../runtime/logger.ts'
import { untilReachable } from '../runtime/until-reachable.ts'

const levels: Record<LogLevel, 'trace' | 'debug' | 'info' | 'warn' | 'error'> = {
  TRACE: 'trace',
  DEBUG: 'debug',
  INFO: 'info',
  WARN: 'warn',
  ERROR: 'error',
}

/** Once per process, before any connection or worker. */
export function installTemporalRuntime(logger: Logger): SdkLogger {
  const sdkLogger = new DefaultLogger('INFO', ({ level, message, meta }) => logger[levels[level]]({ ...meta }, message))
  Runtime.install({
    logger: sdkLogger,
    // runtime/shutdown.ts stops everything in order; the SDK must not stop its part by itself.
    shutdownSignals: [],
    telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' } } },
  })
  return sdkLogger
}

/** Connects, and waits as long as it takes for a server that is not there yet. Rejects with `signal.reason` when stopped meanwhile. */
export async function connectWorkers(environment: Environment, logger: Logger, signal: AbortSignal): Promise<NativeConnection> {
  return untilReachable(logger, signal, `Temporal at ${environment.temporalAddress}`, () =>
    NativeConnection.connect({ address: environment.temporalAddress }),
  )
}
