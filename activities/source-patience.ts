/** How long a step waits for a platform that does not answer. */
import { activityInfo } from '@temporalio/activity'
import { HoldfastError } from '../domain/errors.ts'

/** With the profile's back-off about two and a half minutes, besides what each question takes. */
const ATTEMPTS_MAX = 10

/**
 * Runs a step's work on a source. An error that may pass is made lasting when it was met in many attempts: a backup whose hypervisor is
 * away must end with the reason, not wait for ever; a clean-up that cannot reach it is left to the reconcile pass.
 */
export async function patientWithSource<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw unlessTooOften(error, activityInfo().attempt)
  }
}

export function unlessTooOften(error: unknown, attempt: number): unknown {
  if (!(error instanceof HoldfastError) || !error.retryable || attempt < ATTEMPTS_MAX) return error
  return new HoldfastError(error.code, `${error.message} Given up after ${attempt} attempts.`, {
    details: { ...error.details, attempts: attempt },
    cause: error,
    retryable: false,
  })
}
