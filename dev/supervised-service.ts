/** Keeps one process running: started, watched, started again when it ends by itself, stopped when asked. */
import { setTimeout as delay } from 'node:timers/promises'
import type { ToolExit } from '../tools/run-tool.ts'

/** A process that is ready for work. */
export interface ReadyProcess {
  readonly pid: number
  readonly exited: Promise<ToolExit>
  /** Tells it to end, kills it after `graceMs`; resolves when it is gone. */
  stop(graceMs: number): Promise<void>
}

export interface ServiceRecipe<Name extends string = string> {
  name: Name
  /** Resolves when the process is ready. Must leave nothing running when it rejects, and reject soon after `signal` aborts. */
  start(signal: AbortSignal): Promise<ReadyProcess>
  stopGraceMs: number
}

/** What happened to a service; times in milliseconds. */
export type ServiceEvent<Name extends string = string> = { service: Name } & (
  | { kind: 'starting' }
  | { kind: 'ready'; pid: number; tookMs: number }
  | { kind: 'exited'; pid: number; exit: ToolExit; restartInMs: number }
  | { kind: 'restarted'; pid: number; previousPid: number; tookMs: number }
  | { kind: 'restart-failed'; error: unknown; restartInMs: number }
  | { kind: 'stopping'; pid: number | null }
  | { kind: 'stopped'; tookMs: number }
)

export interface SupervisedService<Name extends string = string> {
  readonly name: Name
  /** `null` between its end and its restart. */
  readonly pid: number | null
  /** Idempotent; also ends a restart that is under way. */
  stop(): Promise<void>
}

const FIRST_PAUSE_MS = 200
const LONGEST_PAUSE_MS = 15_000
/** Whoever ran so long is not in a crash loop: the pauses begin anew. */
const STABLE_AFTER_MS = 30_000

/** Starts the service and resolves when it is ready; rejects as its recipe does. From then on it is kept running until `stop`. */
export async function superviseService<Name extends string>(
  recipe: ServiceRecipe<Name>,
  report: (event: ServiceEvent<Name>) => void,
  signal: AbortSignal,
): Promise<SupervisedService<Name>> {
  const service = recipe.name
  const ending = new AbortController()
  const startedAt = performance.now()
  report({ service, kind: 'starting' })
  let current: ReadyProcess | null = await recipe.start(signal)
  report({ service, kind: 'ready', pid: current.pid, tookMs: performance.now() - startedAt })

  const keepRunning = async (first: ReadyProcess): Promise<void> => {
    let pauseMs = FIRST_PAUSE_MS
    for (let running = first; ;) {
      const readyAt = performance.now()
      const exit = await running.exited
      current = null
      if (ending.signal.aborted) return
      if (performance.now() - readyAt > STABLE_AFTER_MS) pauseMs = FIRST_PAUSE_MS
      report({ service, kind: 'exited', pid: running.pid, exit, restartInMs: pauseMs })
      const exitedAt = performance.now()
      const next = await startAgain(pauseMs)
      if (!next) return
      report({ service, kind: 'restarted', pid: next.pid, previousPid: running.pid, tookMs: performance.now() - exitedAt })
      pauseMs = longer(pauseMs)
      running = next
    }
  }

  const startAgain = async (firstPauseMs: number): Promise<ReadyProcess | undefined> => {
    for (let pauseMs = firstPauseMs; !ending.signal.aborted; pauseMs = longer(pauseMs)) {
      try {
        await delay(pauseMs, undefined, { signal: ending.signal })
        const next = await recipe.start(ending.signal)
        if (!ending.signal.aborted) return (current = next)
        await next.stop(recipe.stopGraceMs)
      } catch (error) {
        if (!ending.signal.aborted) report({ service, kind: 'restart-failed', error, restartInMs: longer(pauseMs) })
      }
    }
    return undefined
  }

  const watching = keepRunning(current)
  const stopOnce = async (): Promise<void> => {
    const stoppingAt = performance.now()
    report({ service, kind: 'stopping', pid: current?.pid ?? null })
    ending.abort(new Error(`${service} is being stopped`))
    await current?.stop(recipe.stopGraceMs)
    await watching
    report({ service, kind: 'stopped', tookMs: performance.now() - stoppingAt })
  }
  let stopped: Promise<void> | undefined
  return {
    name: service,
    get pid() {
      return current?.pid ?? null
    },
    stop: () => (stopped ??= stopOnce()),
  }
}

function longer(pauseMs: number): number {
  return Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
}
