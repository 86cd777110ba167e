/** Calls to Temporal that end in time. */
import { WorkflowNotFoundError } from '@temporalio/client'
import type { Client, WorkflowExecutionDescription } from '@temporalio/client'
import { outOfReach } from './client-failures.ts'

const CALL_DEADLINE_MS = 10_000

/** Gives a call, or a few in a row, ten seconds. */
export function within<T>(client: Client, call: () => Promise<T>): Promise<T> {
  return client.withDeadline(Date.now() + CALL_DEADLINE_MS, call)
}

/** `ORCHESTRATOR_UNAVAILABLE` after `timeoutMs` whatever the SDK does: while it has no connection, its own deadlines come late. */
export async function promptly<T>(timeoutMs: number, call: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(outOfReach()), timeoutMs)
  try {
    return await Promise.race([call, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

/** The newest run with this id; `undefined` when Temporal knows none (any more). */
export async function describeWorkflow(client: Client, workflowId: string): Promise<WorkflowExecutionDescription | undefined> {
  try {
    return await within(client, () => client.workflow.getHandle(workflowId).describe())
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return undefined
    throw error
  }
}
