/** Opening, extending and releasing restore mounts. */
import { setTimeout as delay } from 'node:timers/promises'
import {
  WithStartWorkflowOperation,
  WorkflowIdConflictPolicy,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
} from '@temporalio/client'
import type { Client } from '@temporalio/client'
import type { UpdateDefinition } from '@temporalio/common'
import { HoldfastError } from '../domain/errors.ts'
import { extendUpdate, openUpdate, releaseUpdate } from '../workflows/restore-mount-updates.ts'
import type { MountEnd } from '../workflows/restore-mount-updates.ts'
import { within } from './client-calls.ts'
import { isOutOfReach, outOfReach, toHoldfastError } from './client-failures.ts'
import { restoreMountWorkflowId } from './workflow-ids.ts'
import type { WorkflowStart } from './workflow-starts.ts'

/** Waits until the disk is mounted. One that is just being unmounted is waited for and opened anew. `MOUNT_NOT_READY` when the time is over. */
export async function openMount(client: Client, mountId: string, start: WorkflowStart, deadlineMs: number): Promise<void> {
  const deadline = Date.now() + deadlineMs
  for (;;) {
    try {
      await client.withDeadline(deadline, () => startOpening(client, start))
      return
    } catch (error) {
      if (isTooLate(error)) break
      if (!isEnding(error)) throw error
    }
    // Refused questions leave no trace in the history, so that asking again costs nothing there.
    await delay(ASK_AGAIN_MS)
    if (Date.now() > deadline) break
  }
  // Nobody may have taken the question; started without it, the mount waits for whoever takes it.
  const { workflowType, ...options } = start
  await within(client, () => client.workflow.start(workflowType, { ...options, ...joining }))
  throw new HoldfastError(
    'MOUNT_NOT_READY',
    `The disk was not mounted within ${deadlineMs / 1000} s; it goes on by itself. Ask again in a while, and check that the mover of its host is running.`,
    { details: { mount_id: mountId } },
  )
}

/** `MOUNT_NOT_FOUND`, also while it is being unmounted. */
export function extendMount(client: Client, mountId: string, deadlineMs: number): Promise<MountEnd> {
  return told(client, mountId, extendUpdate, deadlineMs, outOfReach)
}

/** Waits until nothing of it is left. `MOUNT_NOT_FOUND`; `MOVER_UNAVAILABLE` when its host does not confirm that in time. */
export async function releaseMount(client: Client, mountId: string, deadlineMs: number): Promise<void> {
  await told(client, mountId, releaseUpdate, deadlineMs, (cause) => {
    const message = `The mount was not unmounted within ${deadlineMs / 1000} s; it goes on by itself. Check that the mover of its host is running.`
    return new HoldfastError('MOVER_UNAVAILABLE', message, { details: { mount_id: mountId }, cause })
  })
}

const ASK_AGAIN_MS = 250

const joining = { workflowIdConflictPolicy: WorkflowIdConflictPolicy.USE_EXISTING }

function startOpening(client: Client, { workflowType, ...options }: WorkflowStart): Promise<MountEnd> {
  const startWorkflowOperation = new WithStartWorkflowOperation(workflowType, { ...options, ...joining })
  return client.workflow.executeUpdateWithStart(openUpdate, { startWorkflowOperation })
}

/** The workflow refuses because it unmounts, or closed before it could answer. */
function isEnding(error: unknown): boolean {
  if (error instanceof WorkflowNotFoundError) return true
  return error instanceof WorkflowUpdateFailedError && toHoldfastError(error).code === 'MOUNT_NOT_READY'
}

async function told<Answer>(
  client: Client,
  mountId: string,
  update: UpdateDefinition<Answer>,
  deadlineMs: number,
  late: (cause: unknown) => HoldfastError,
): Promise<Answer> {
  const handle = client.workflow.getHandle(restoreMountWorkflowId(mountId))
  try {
    return await client.withDeadline(Date.now() + deadlineMs, () => handle.executeUpdate(update))
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) throw mountNotFound(mountId, error)
    throw isTooLate(error) ? late(error) : error
  }
}

function isTooLate(error: unknown): boolean {
  return error instanceof WorkflowUpdateRPCTimeoutOrCancelledError || isOutOfReach(error)
}

function mountNotFound(mountId: string, cause: unknown): HoldfastError {
  return new HoldfastError('MOUNT_NOT_FOUND', `Nothing is mounted as ${mountId} (any more). Mount the disk again.`, {
    details: { mount_id: mountId },
    cause,
  })
}
