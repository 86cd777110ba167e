/** Workflows that start by the clock. */
import { ScheduleAlreadyRunning, ScheduleOverlapPolicy } from '@temporalio/client'
import type { Client, ScheduleOptions } from '@temporalio/client'
import type { ReconcileInput } from '../workflows/reconcile.ts'
import { searchAttributesFor } from '../workflows/search-attributes.ts'
import { CONTROL_QUEUE } from './task-queues.ts'
import { RECONCILE_SCHEDULE_ID } from './workflow-ids.ts'

const RECONCILE_EVERY = '5 minutes'

/** Makes sure that `reconcile` runs every five minutes with this input, and starts one now unless one runs. Idempotent. */
export async function scheduleReconcile(client: Client, input: ReconcileInput): Promise<void> {
  const options = reconcileSchedule(input)
  try {
    await client.schedule.create(options)
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error
    await client.schedule.getHandle(RECONCILE_SCHEDULE_ID).update((previous) => ({
      ...previous,
      spec: options.spec,
      action: options.action,
      policies: { ...previous.policies, ...options.policies },
    }))
  }
  await client.schedule.getHandle(RECONCILE_SCHEDULE_ID).trigger(ScheduleOverlapPolicy.SKIP)
}

function reconcileSchedule(input: ReconcileInput) {
  return {
    scheduleId: RECONCILE_SCHEDULE_ID,
    spec: { intervals: [{ every: RECONCILE_EVERY }] },
    // A server that was away needs one run, not all that were missed.
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '1 minute' },
    action: {
      type: 'startWorkflow',
      workflowType: 'reconcile',
      workflowId: RECONCILE_SCHEDULE_ID,
      taskQueue: CONTROL_QUEUE,
      args: [input],
      workflowExecutionTimeout: '1 hour',
      typedSearchAttributes: searchAttributesFor({ kind: 'reconcile' }),
      staticSummary: 'Repair what no running workflow owns',
    },
  } satisfies ScheduleOptions
}
