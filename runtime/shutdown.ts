/**
 * Stopping in order. A process registers what it has opened, as it opens it; SIGTERM, SIGINT or SIGHUP closes it all, newest first,
 * and the process exits: 0 when every step ended, 1 when one failed or the deadline passed. A second signal means "now".
 */
import type { Logger } from './logger.ts'

export interface Shutdown {
  /** Aborted at the first signal; long waits listen to it. */
  readonly signal: AbortSignal
  /** Registers the closing of something just opened. Steps run one after another, the newest first; a failing step does not keep the others from running. */
  add(name: string, stop: () => Promise<void> | void): void
  /** Stops as a signal would; for a process that cannot go on. `exitCode` other than 0 is kept. */
  begin(reason: string, exitCode?: number): Promise<void>
}

export interface ShutdownOptions {
  logger: Logger
  /** Milliseconds for all steps together. */
  deadlineMs?: number
  /** A signal that comes so soon after the first is the same one: Ctrl-C reaches us from the terminal and again from npm. */
  repeatMs?: number
  /** For tests; the process exits by default. */
  exit?: (code: number) => void
}

const stopSignals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const

/** Takes over the stop signals of this process. Call once, before anything is opened. */
export function createShutdown({
  logger,
  deadlineMs = 25_000,
  repeatMs = 1_000,
  exit = (code) => process.exit(code),
}: ShutdownOptions): Shutdown {
  const steps: { name: string; stop: () => Promise<void> | void }[] = []
  const controller = new AbortController()
  let running: Promise<void> | undefined
  let began = 0

  const begin = (reason: string, exitCode = 0): Promise<void> => {
    began ||= performance.now()
    running ??= runSteps(reason, exitCode)
    return running
  }

  const runSteps = async (reason: string, exitCode: number): Promise<void> => {
    logger.info({ reason }, 'stopping')
    controller.abort(new Error(`stopping: ${reason}`))
    let current = ''
    const deadline = setTimeout(() => {
      logger.error({ step: current, deadlineMs }, 'stopping took too long')
      exit(1)
    }, deadlineMs)
    let code = exitCode
    // Popped, so that a step added while we are stopping is closed too.
    for (let step = steps.pop(); step; step = steps.pop()) {
      current = step.name
      try {
        await step.stop()
      } catch (error) {
        logger.error({ err: error, step: step.name }, 'a step of stopping failed')
        code = 1
      }
    }
    clearTimeout(deadline)
    logger.info('stopped')
    exit(code)
  }

  for (const name of stopSignals) {
    process.on(name, () => {
      if (!running) void begin(name)
      else if (performance.now() - began >= repeatMs) exit(1)
    })
  }
  return { signal: controller.signal, add: (name, stop) => void steps.push({ name, stop }), begin }
}
