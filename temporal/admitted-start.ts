/** Starting a workflow and waiting, for a while, for its answer whether the work is admitted. */
import {
  WithStartWorkflowOperation,
  WorkflowExecutionAlreadyStartedError,
  WorkflowIdConflictPolicy,
  WorkflowUpdateRPCTimeoutOrCancelledError,
} from '@temporalio/client'
import type { Client } from '@temporalio/client'
import { admissionUpdate } from '../workflows/admission-update.ts'
import { describeWorkflow, within } from './client-calls.ts'
import { hasGrpcStatus } from './grpc-status.ts'
import { backupOf } from './workflow-starts.ts'
import type { WorkflowStart } from './workflow-starts.ts'

/**
 * The answer of the workflow's admission; `null` when Temporal has the work but nobody decided in time: it goes on by itself.
 * `WorkflowExecutionAlreadyStartedError` when other work has the id, `WorkflowUpdateFailedError` when the work was refused.
 */
export async function admitWithin<Answer>(client: Client, start: WorkflowStart, deadlineMs: number): Promise<Answer | null> {
  const deadline = Date.now() + deadlineMs
  try {
    return await client.withDeadline(deadline, () => startAsking<Answer>(client, start))
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) return askOurs<Answer>(client, start, deadline, error)
    if (!isTooLate(error)) throw error
    return startUnlessOurs(client, start)
  }
}

function startAsking<Answer>(client: Client, { workflowType, ...options }: WorkflowStart): Promise<Answer> {
  const startWorkflowOperation = new WithStartWorkflowOperation(workflowType, {
    ...options,
    workflowIdConflictPolicy: WorkflowIdConflictPolicy.FAIL,
  })
  return client.workflow.executeUpdateWithStart(admissionUpdate<Answer>(), { startWorkflowOperation })
}

/** A start whose answer was lost on the way is repeated by the client and meets its own workflow. */
async function askOurs<Answer>(client: Client, start: WorkflowStart, deadline: number, taken: Error): Promise<Answer | null> {
  if (!(await isOurs(client, start))) throw taken
  try {
    const handle = client.workflow.getHandle(start.workflowId)
    return await client.withDeadline(deadline, () => handle.executeUpdate(admissionUpdate<Answer>()))
  } catch (error) {
    if (isTooLate(error)) return null
    throw error
  }
}

/** The deadline passed: was the work too late, or did it never arrive? Started without the question, it waits for whoever takes it. */
async function startUnlessOurs(client: Client, start: WorkflowStart): Promise<null> {
  const { workflowType, ...options } = start
  try {
    await within(client, () =>
      client.workflow.start(workflowType, { ...options, workflowIdConflictPolicy: WorkflowIdConflictPolicy.FAIL }),
    )
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError) || !(await isOurs(client, start))) throw error
  }
  return null
}

/** Whether the workflow that has this id works for the same request. Ids of chains are shared, backups' ids are not. */
async function isOurs(client: Client, start: WorkflowStart): Promise<boolean> {
  const holder = await describeWorkflow(client, start.workflowId)
  return holder?.type === start.workflowType && backupOf(holder) === backupOf(start)
}

function isTooLate(error: unknown): boolean {
  return error instanceof WorkflowUpdateRPCTimeoutOrCancelledError || hasGrpcStatus(error, 'DEADLINE_EXCEEDED', 'CANCELLED')
}
