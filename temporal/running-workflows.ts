/** Answers, from Temporal's own state, whether someone works on something. */
import { WorkflowNotFoundError } from '@temporalio/client'
import type { Client } from '@temporalio/client'
import type { RunningWorkflows } from '../activities/running-workflows.ts'
import { HoldfastError } from '../domain/errors.ts'
import { isBackupId } from '../domain/ids.ts'
import { backupKey } from '../workflows/search-attributes.ts'

const DEADLINE_MS = 10_000

/** Throws `ORCHESTRATOR_UNAVAILABLE` (retryable) rather than guess. */
export function createRunningWorkflows(client: Client): RunningWorkflows {
  return {
    isRunning: (workflowId, backupId) => asking(client, () => isRunning(client, workflowId, backupId)),
    isWorkingOn: (backupId) => asking(client, () => isWorkingOn(client, backupId)),
  }
}

async function isRunning(client: Client, workflowId: string, backupId: string | undefined): Promise<boolean> {
  try {
    const { status, typedSearchAttributes } = await client.workflow.getHandle(workflowId).describe()
    if (status.name !== 'RUNNING') return false
    return backupId === undefined || typedSearchAttributes.get(backupKey) === backupId
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false
    throw error
  }
}

async function isWorkingOn(client: Client, backupId: string): Promise<boolean> {
  // The id becomes part of a query: one that is not ours names nothing of ours.
  if (!isBackupId(backupId)) return false
  const { count } = await client.workflow.count(`${backupKey.name} = "${backupId}" AND ExecutionStatus = "Running"`)
  return count > 0
}

async function asking<T>(client: Client, question: () => Promise<T>): Promise<T> {
  try {
    return await client.withDeadline(Date.now() + DEADLINE_MS, question)
  } catch (error) {
    throw new HoldfastError('ORCHESTRATOR_UNAVAILABLE', 'Temporal did not say which workflows run. It is asked again.', {
      cause: error,
    })
  }
}
