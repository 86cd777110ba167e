/** What a failed call to Temporal means for whoever asked: always a `HoldfastError`. */
import { WorkflowFailedError, WorkflowUpdateFailedError } from '@temporalio/client'
import { HoldfastError } from '../domain/errors.ts'
import { failureOf } from '../workflows/failure.ts'
import { hasGrpcStatus } from './grpc-status.ts'

/** Failures of workflows and updates come back with their own code; a silent or absent server is `ORCHESTRATOR_UNAVAILABLE`. */
export function toHoldfastError(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error
  if (error instanceof WorkflowFailedError || error instanceof WorkflowUpdateFailedError) {
    const { code, message, details } = failureOf(error.cause)
    return new HoldfastError(code, message, { details, cause: error })
  }
  if (isOutOfReach(error)) {
    const message =
      'Temporal does not answer. Check that it is running and that TEMPORAL_ADDRESS points to it; running backups go on.'
    return new HoldfastError('ORCHESTRATOR_UNAVAILABLE', message, { cause: error })
  }
  return new HoldfastError('INTERNAL', `Temporal refused a request: ${error instanceof Error ? error.message : String(error)}`, {
    cause: error,
  })
}

/** What to tell when Temporal is silent or absent. */
export function outOfReach(cause?: unknown): HoldfastError {
  const message =
    'Temporal does not answer. Check that it is running and that TEMPORAL_ADDRESS points to it; running backups go on.'
  return new HoldfastError('ORCHESTRATOR_UNAVAILABLE', message, { cause })
}

/** The call's own deadline counts: each call is given less time than the server would need to be well. */
export function isOutOfReach(error: unknown): boolean {
  if (hasGrpcStatus(error, 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'CANCELLED')) return true
  return error instanceof Error && error.message.includes('Failed to connect before the deadline')
}
