/** Workflows that start by the clock. */
import { ScheduleAlreadyRunning, ScheduleNotFoundError, ScheduleOverlapPolicy } from '@temporalio/client'
import type { Client, ScheduleOptions, ScheduleSpec } from '@temporalio/client'
import type { AttestLocksInput } from '../workflows/attest-locks.ts'
import type { MonitorStorageInput } from '../workflows/monitor-storage.ts'
import type { ReconcileInput } from '../workflows/reconcile.ts'
import { searchAttributesFor } from '../workflows/search-attributes.ts'
import { CONTROL_QUEUE } from './task-queues.ts'
import { LOCK_ATTESTATION_SCHEDULE_ID, RECONCILE_SCHEDULE_ID, STORAGE_MONITOR_SCHEDULE_ID } from './workflow-ids.ts'

const RECONCILE_EVERY = '5 minutes'
/** A mover that is being restarted is back within this; nothing else waits for it. */
const MOVER_PATIENCE_MS = 60_000
/** Of the interval: not all installations look at one file server at the same moment. */
const MONITOR_JITTER_SHARE = 0.1

interface Scheduled {
  scheduleId: string
  spec: ScheduleSpec
  workflowType: string
  /** The kind that the Web UI shows. */
  kind: string
  input: object
  /** A run that takes longer is ended: the next one begins anew. */
  workflowExecutionTimeout: '1 hour' | '10 minutes'
  staticSummary: string
}

/** Makes sure that `reconcile` runs every five minutes with this input, and starts one now unless one runs. Idempotent. */
export async function scheduleReconcile(client: Client, input: ReconcileInput): Promise<void> {
  await ensureSchedule(client, {
    scheduleId: RECONCILE_SCHEDULE_ID,
    spec: { intervals: [{ every: RECONCILE_EVERY }] },
    workflowType: 'reconcile',
    kind: 'reconcile',
    input,
    workflowExecutionTimeout: '1 hour',
    staticSummary: 'Repair what no running workflow owns',
  })
}

/** Makes sure that `monitorStorage` runs so often, and starts one now unless one runs. Idempotent. */
export async function scheduleStorageMonitor(
  client: Client,
  { intervalSeconds, heartbeatTimeoutMs }: { intervalSeconds: number; heartbeatTimeoutMs: number },
): Promise<void> {
  const input: MonitorStorageInput = { moverPatienceMs: MOVER_PATIENCE_MS, heartbeatTimeoutMs }
  const everyMs = intervalSeconds * 1000
  await ensureSchedule(client, {
    scheduleId: STORAGE_MONITOR_SCHEDULE_ID,
    spec: { intervals: [{ every: everyMs }], jitter: Math.round(everyMs * MONITOR_JITTER_SHARE) },
    workflowType: 'monitorStorage',
    kind: 'monitor-storage',
    input,
    workflowExecutionTimeout: '10 minutes',
    staticSummary: 'Look at all repositories',
  })
}

/** Makes sure that `attestLocks` runs every day, and starts one now unless one runs. Idempotent. */
export async function scheduleLockAttestation(client: Client, input: AttestLocksInput): Promise<void> {
  await ensureSchedule(client, {
    scheduleId: LOCK_ATTESTATION_SCHEDULE_ID,
    spec: { intervals: [{ every: '1 day' }], jitter: '1 hour' },
    workflowType: 'attestLocks',
    kind: 'attest-locks',
    input,
    workflowExecutionTimeout: '1 hour',
    staticSummary: 'Look at the locks of all repositories',
  })
}

/** Starts a look at all repositories now, unless one runs. Nothing happens where no control worker has made the schedule yet: it starts one itself. */
export async function triggerStorageMonitor(client: Client): Promise<void> {
  try {
    await client.schedule.getHandle(STORAGE_MONITOR_SCHEDULE_ID).trigger(ScheduleOverlapPolicy.SKIP)
  } catch (error) {
    if (!(error instanceof ScheduleNotFoundError)) throw error
  }
}

async function ensureSchedule(client: Client, scheduled: Scheduled): Promise<void> {
  const options = scheduleOptions(scheduled)
  const handle = client.schedule.getHandle(scheduled.scheduleId)
  try {
    await client.schedule.create(options)
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error
    await handle.update((previous) => ({
      ...previous,
      spec: options.spec,
      action: options.action,
      policies: { ...previous.policies, ...options.policies },
    }))
  }
  await handle.trigger(ScheduleOverlapPolicy.SKIP)
}

function scheduleOptions(scheduled: Scheduled) {
  const { scheduleId, spec, workflowType, kind, input, workflowExecutionTimeout, staticSummary } = scheduled
  return {
    scheduleId,
    spec,
    // A server that was away needs one run, not all that were missed.
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '1 minute' },
    action: {
      type: 'startWorkflow',
      workflowType,
      workflowId: scheduleId,
      taskQueue: CONTROL_QUEUE,
      args: [input],
      workflowExecutionTimeout,
      typedSearchAttributes: searchAttributesFor({ kind }),
      staticSummary,
    },
  } satisfies ScheduleOptions
}
