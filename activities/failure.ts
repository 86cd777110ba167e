/**
 * The one map from our errors to Temporal's. Activities throw `HoldfastError`s and know nothing of this; their factories wrap
 * them with {@link guarded}.
 *
 * | thrown | becomes |
 * |---|---|
 * | anything, while the step is being cancelled | the cancellation (`signal.reason`), so that it is reported as cancelled, not failed |
 * | anything, while the worker shuts down | a retryable `WorkerShutdown` of no severity: the step goes on elsewhere |
 * | `HoldfastError` | `ApplicationFailure` with `type` = code, `details` = [details], not retried when the error is lasting |
 * | any other error | `INTERNAL`, not retried: a bug does not pass by waiting |
 */
import { inspect } from 'node:util'
import { CancelledFailure, Context, log } from '@temporalio/activity'
import { ApplicationFailure, ApplicationFailureCategory } from '@temporalio/common'
import { HoldfastError } from '../domain/errors.ts'
import { heartbeating } from './heartbeat.ts'

/** An activity: one step, taking and returning plain data. */
type Step = (...input: never[]) => Promise<unknown>

/** How soon a step that a stopping worker gave back is tried again. */
const AFTER_SHUTDOWN_MS = 1_000

type Steps<T> = { [Name in keyof T]: Step }

/** Wraps short steps: errors are mapped, and they heartbeat without a position. */
export function guarded<T extends Steps<T>>(steps: T): T {
  return wrapped(steps, (work) => heartbeating(work))
}

/** Wraps steps that heartbeat by themselves, with a position: only errors are mapped. */
export function guardedResumable<T extends Steps<T>>(steps: T): T {
  return wrapped(steps, (work) => work())
}

function wrapped<T extends Steps<T>>(steps: T, run: (work: () => Promise<unknown>) => Promise<unknown>): T {
  const guard = (step: Step): Step => {
    return async (...input) => {
      try {
        return await run(() => step(...input))
      } catch (error) {
        logCause(error)
        throw toTemporalFailure(error, Context.current().cancellationSignal)
      }
    }
  }
  const guardedSteps = Object.entries<Step>(steps).map(([name, step]) => [name, guard(step)])
  // Each wrapper takes and returns what its step does, which the type system cannot follow through entries.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return Object.fromEntries(guardedSteps) as T
}

/** The cause does not travel, so it is told here. */
function logCause(error: unknown): void {
  if (error instanceof HoldfastError && error.cause !== undefined) {
    log.warn(`${error.code}: ${error.message}`, { cause: inspect(error.cause, { depth: 2 }) })
  }
}

/** The table above. `signal`: of the running activity. */
export function toTemporalFailure(error: unknown, signal: AbortSignal): Error {
  if (signal.aborted) return afterCancellation(signal.reason)
  if (error instanceof CancelledFailure || error instanceof ApplicationFailure) return error
  if (error instanceof HoldfastError) return fromHoldfast(error)
  return fromHoldfast(new HoldfastError('INTERNAL', error instanceof Error ? error.message : String(error), { cause: error }))
}

function afterCancellation(reason: unknown): Error {
  if (!(reason instanceof CancelledFailure)) return new CancelledFailure(String(reason))
  if (reason.message !== 'WORKER_SHUTDOWN') return reason
  return ApplicationFailure.create({
    type: 'WorkerShutdown',
    message: 'The worker is stopping; the step goes on when one is back.',
    nextRetryDelay: AFTER_SHUTDOWN_MS,
    category: ApplicationFailureCategory.BENIGN,
  })
}

/** Causes stay in the mover's log: a history is read by more people, and a driver's or tool's own words may say too much. */
function fromHoldfast(error: HoldfastError): ApplicationFailure {
  const { code, message, details, retryable } = error
  const failure = ApplicationFailure.create({ type: code, message, details: [details], nonRetryable: !retryable })
  if (error.stack !== undefined) failure.stack = error.stack
  return failure
}
