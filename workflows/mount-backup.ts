/**
 * Mounts a disk of a backup for reading its files, under a lease: it ends when nobody has used it for a while, at the latest after its
 * maximum, or when somebody releases it. The backup is pinned as long. Unmounting cannot be cancelled or skipped.
 *
 * What is mounted lives in the mover's process. While its host is silent nobody knows that it is gone, so the row stays `unmounting` and the pin
 * stands until a mover of that host confirms; what the pin keeps from happening, deleting the backup, needs that host too.
 */
import { CancellationScope, allHandlersFinished, condition, continueAsNew } from '@temporalio/workflow'
import { setCurrentDetails, upsertSearchAttributes, workflowInfo } from '@temporalio/workflow'
import type { OpenMountRequest } from '../temporal/operations.ts'
import { controlSteps, hostSteps, interactiveHostSteps, mountHoldingSteps } from './activity-options.ts'
import type { HostPatience } from './activity-options.ts'
import { cancellationBehind } from './cancellation.ts'
import { Compensations } from './compensation.ts'
import { asApplicationFailure, failureOf } from './failure.ts'
import type { FailureReport } from './failure.ts'
import { MountDesk } from './mount-desk.ts'
import { hostKey } from './search-attributes.ts'

export interface MountBackupInput extends OpenMountRequest {
  heartbeatTimeoutMs: number
  /** Of a disk that is mounted already: its lease goes on in a new run. */
  goingOn?: GoingOn
}

interface GoingOn {
  hostId: string
  /** In milliseconds since 1970. */
  startedAt: number
  lastUsedAt: number
}

/** Eight events an hour come from the lease, so a month takes one run; people who extend it often make it take more. */
export async function mountBackup(input: MountBackupInput): Promise<void> {
  const goingOn = await mountUntilOver(input)
  if (goingOn) await continueAsNew<typeof mountBackup>({ ...input, goingOn })
}

async function mountUntilOver(input: MountBackupInput): Promise<GoingOn | undefined> {
  const startedAt = input.goingOn?.startedAt ?? Date.now()
  const desk = new MountDesk({ ...input, startedAt, lastUsedAt: input.goingOn?.lastUsedAt ?? startedAt })
  const undo = new Compensations()
  const hold = new CancellationScope()
  let holding: Promise<void> = Promise.resolve()
  try {
    const patience = await desk.unlessReleased(() => openDisk(input, startedAt, undo))
    desk.opened()
    setCurrentDetails(`Mounted on \`${patience.hostId}\`; ends ${desk.expiresAt} unless it is used`)
    holding = hold.run(() => mountHoldingSteps(patience).holdMount(input.mountId))
    const isOver = await Promise.race([holding.then(() => true), desk.leaseIsOver()])
    if (!isOver && (await handOver(desk, hold, holding)))
      return { hostId: patience.hostId, startedAt, lastUsedAt: desk.lastUsedAt }
    await unmount(desk, undo)
  } catch (error) {
    const cancelled = cancellationBehind(error, 'The mount')
    const report = failureOf(cancelled ?? error)
    setCurrentDetails(`Ended: ${report.message}`)
    await unmount(desk, undo, report)
    if (!desk.isReleased) throw cancelled ?? asApplicationFailure(report, error)
  } finally {
    await letGo(hold, holding)
    await CancellationScope.nonCancellable(() => condition(allHandlersFinished))
  }
  return undefined
}

/** Pins the backup, then has the disk opened where the backup lies. */
async function openDisk(input: MountBackupInput, startedAt: number, undo: Compensations): Promise<HostPatience> {
  const { mountId, backupId, diskIndex, idleMs, maximumMs, heartbeatTimeoutMs, goingOn } = input
  const { workflowId } = workflowInfo()
  const control = controlSteps()
  const pin = { backupId, ownerWorkflowId: workflowId }
  undo.add('forget the mount', () => control.forgetMount({ mountId, ...pin }))
  const { hostId } = goingOn ?? (await control.pinBackup({ ...pin, reason: 'restore mount' }))
  const patience = { hostId, heartbeatTimeoutMs }
  if (!goingOn) {
    upsertSearchAttributes([{ key: hostKey, value: hostId }])
    await control.recordMount({ mountId, backupId, diskIndex, hostId, workflowId, startedAt, idleMs, maximumMs })
  }
  undo.add('close the mount', () => hostSteps(patience).closeMount(mountId))
  undo.add('say that it is being unmounted', () => control.recordUnmounting(mountId))
  if (!goingOn) await interactiveHostSteps(patience).openMount(mountId)
  return patience
}

/** Leaves the disk open for the next run. False when somebody released it meanwhile. */
async function handOver(desk: MountDesk, hold: CancellationScope, holding: Promise<void>): Promise<boolean> {
  await letGo(hold, holding)
  await condition(allHandlersFinished)
  return !desk.isReleased
}

/** Closing ends the holding by itself, sooner than a cancellation would reach it. */
async function unmount(desk: MountDesk, undo: Compensations, refusal?: FailureReport): Promise<void> {
  desk.closing(refusal)
  await undo.run()
  desk.closed()
}

/** How the holding ended is seen where the lease waits for it. */
async function letGo(hold: CancellationScope, holding: Promise<void>): Promise<void> {
  hold.cancel()
  await CancellationScope.nonCancellable(() => holding.catch(() => undefined))
}
