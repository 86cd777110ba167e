/** Whether work that failed was being cancelled. */
import { CancelledFailure, CancellationScope } from '@temporalio/workflow'
import { isCancelled } from './failure.ts'

/**
 * What to end a workflow with when somebody asked for its end; `undefined` when nobody did. A mover that dies while a step is being
 * cancelled makes a time-out of it: what was asked for is still what happened.
 * @param what of the sentence "… was cancelled."
 */
export function cancellationBehind(error: unknown, what: string): unknown {
  if (isCancelled(error)) return error
  return CancellationScope.current().consideredCancelled ? new CancelledFailure(`${what} was cancelled.`) : undefined
}
