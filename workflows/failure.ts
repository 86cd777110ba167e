/** What a failure that crossed Temporal says: the one place that reads the SDK's wrappers, for workflows and for clients. */
import { ActivityFailure, ApplicationFailure, CancelledFailure, ChildWorkflowFailure, TimeoutFailure } from '@temporalio/common'
import { isErrorCode } from '../domain/errors.ts'
import type { ErrorCode, JsonObject } from '../domain/errors.ts'

/** A `HoldfastError` as plain data. */
export interface FailureReport {
  code: ErrorCode
  message: string
  details: JsonObject
}

/** The code, message and details under any number of activity and child workflow wrappers. Never throws. */
export function failureOf(error: unknown): FailureReport {
  if (error instanceof ActivityFailure || error instanceof ChildWorkflowFailure) {
    return error.cause === undefined ? internal(error) : failureOf(error.cause)
  }
  if (error instanceof ApplicationFailure) return applicationReport(error)
  if (error instanceof CancelledFailure) return { code: 'CANCELLED', message: 'The work was cancelled.', details: {} }
  if (error instanceof TimeoutFailure) return timeoutReport(error)
  return internal(error)
}

/** Ends a workflow, or answers an update, with the failure's own code instead of the SDK's "Activity task failed". */
export function asApplicationFailure(report: FailureReport, cause?: unknown): ApplicationFailure {
  const { code, message, details } = report
  return ApplicationFailure.create({
    type: code,
    message,
    details: [details],
    nonRetryable: true,
    ...(cause instanceof Error ? { cause } : {}),
  })
}

/** Whether the work ended because someone asked it to. */
export function isCancelled(error: unknown): boolean {
  return failureOf(error).code === 'CANCELLED'
}

/** Runs a short workflow's steps so that it ends with the failure's own code; a cancellation stays one. */
export async function endingWithCode<T>(steps: () => Promise<T>): Promise<T> {
  try {
    return await steps()
  } catch (error) {
    throw isCancelled(error) ? error : asApplicationFailure(failureOf(error), error)
  }
}

function applicationReport(failure: ApplicationFailure): FailureReport {
  if (!isErrorCode(failure.type)) return internal(failure)
  const details: unknown = failure.details?.[0]
  return { code: failure.type, message: failure.message, details: isJsonObject(details) ? details : {} }
}

function timeoutReport(failure: TimeoutFailure): FailureReport {
  if (failure.timeoutType === 'SCHEDULE_TO_START') {
    const message = 'No mover took the work in time. Check that the mover of this host is running.'
    return { code: 'MOVER_UNAVAILABLE', message, details: {} }
  }
  // A heartbeat or attempt that ran out is retried by its profile; one that gets here has used up its attempts.
  const message = `The mover stopped answering during the work (${failure.timeoutType}). Check the mover's log, then try again.`
  return { code: 'MOVER_UNAVAILABLE', message, details: {} }
}

function internal(error: unknown): FailureReport {
  const message = error instanceof Error ? error.message : String(error)
  return { code: 'INTERNAL', message, details: {} }
}

function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
