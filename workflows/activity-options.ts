/**
 * How long each kind of step may take, and what happens when it does not. Every profile waits for a cancelled step to have stopped
 * (`WAIT_CANCELLATION_COMPLETED` is not Temporal's default), so that no clean-up runs under a step that still works.
 * Which errors are tried again is decided in `activities/failure.ts`, not here.
 */
import { ActivityCancellationType, proxyActivities } from '@temporalio/workflow'
import type { RetryPolicy } from '@temporalio/common'
import type { ActivityInterfaceFor } from '@temporalio/workflow'
import type { ControlActivities, HostActivities } from '../activities/index.ts'
import type { ParkingLooks } from '../domain/parking.ts'
import type { ParkingActivities } from '../activities/parking.ts'
import type { MountHoldingActivities } from '../activities/restore-mounts.ts'
import type { LookActivities } from '../activities/storage-monitoring.ts'
import type { TransferActivities } from '../activities/transfers.ts'
import { CONTROL_QUEUE, hostQueue, lookQueue, mountQueue, transferQueue } from './task-queues.ts'

const cancellationType = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED

/** Until it works: a database, a share or a mover that is away comes back. */
const untilItWorks: RetryPolicy = { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '30s' }

/** A person waits for the answer: better the reason soon than success later. */
const fewTimes: RetryPolicy = { initialInterval: '500ms', backoffCoefficient: 2, maximumAttempts: 3 }

/** How a mover's silence is measured; comes with the workflow's input so that every deployment can choose. */
export interface HostPatience {
  hostId: string
  /** A mover that is silent for so long is taken for dead and the step is given to it, or its successor, again. */
  heartbeatTimeoutMs: number
}

/** Steps that need only the catalog. */
export function controlSteps(): ActivityInterfaceFor<ControlActivities> {
  return proxyActivities<ControlActivities>({
    taskQueue: CONTROL_QUEUE,
    startToCloseTimeout: '2m',
    heartbeatTimeout: '10s',
    cancellationType,
    retry: untilItWorks,
  })
}

/** Short steps on a data host, as part of work that may wait for the host to come back. */
export function hostSteps({ hostId, heartbeatTimeoutMs }: HostPatience): ActivityInterfaceFor<HostActivities> {
  return proxyActivities<HostActivities>({
    taskQueue: hostQueue(hostId),
    startToCloseTimeout: '30m',
    heartbeatTimeout: heartbeatTimeoutMs,
    cancellationType,
    retry: untilItWorks,
  })
}

/**
 * Short steps on a data host while a person waits. Where nothing picks them up in half a minute, that is reported: with another half for the clean-up, which
 * waits as long, it is still within what the API waits for an answer.
 */
export function interactiveHostSteps({ hostId, heartbeatTimeoutMs }: HostPatience): ActivityInterfaceFor<HostActivities> {
  return proxyActivities<HostActivities>({
    taskQueue: hostQueue(hostId),
    scheduleToStartTimeout: '30s',
    startToCloseTimeout: '2m',
    heartbeatTimeout: heartbeatTimeoutMs,
    cancellationType,
    retry: fewTimes,
  })
}

/** Looks at repositories: what does not answer in time is an answer. A mover that stops in the middle, or its successor, looks once more. */
export function lookSteps({
  hostId,
  heartbeatTimeoutMs,
  moverPatienceMs,
}: HostPatience & { moverPatienceMs: number }): ActivityInterfaceFor<LookActivities> {
  return proxyActivities<LookActivities>({
    taskQueue: lookQueue(hostId),
    scheduleToStartTimeout: moverPatienceMs,
    startToCloseTimeout: '15s',
    heartbeatTimeout: heartbeatTimeoutMs,
    cancellationType,
    retry: { initialInterval: '1s', maximumAttempts: 2 },
  })
}

/** Steps that look at every VM of a platform. Somebody waits, but there may be many VMs. */
export function platformSteps({ hostId, heartbeatTimeoutMs }: HostPatience): ActivityInterfaceFor<HostActivities> {
  return proxyActivities<HostActivities>({
    taskQueue: hostQueue(hostId),
    scheduleToStartTimeout: '60s',
    startToCloseTimeout: '30m',
    heartbeatTimeout: heartbeatTimeoutMs,
    cancellationType,
    retry: fewTimes,
  })
}

/** Steps that should come soon after others, and without which the work goes on: what was not done after some minutes is told, and done later. */
export function soonHostSteps({ hostId, heartbeatTimeoutMs }: HostPatience): ActivityInterfaceFor<HostActivities> {
  return proxyActivities<HostActivities>({
    taskQueue: hostQueue(hostId),
    scheduleToCloseTimeout: '5m',
    heartbeatTimeout: heartbeatTimeoutMs,
    cancellationType,
    retry: untilItWorks,
  })
}

/** Steps that read or write whole disks. They resume, so a week is a limit for one attempt, not for the disk. */
export function longHostSteps({ hostId, heartbeatTimeoutMs }: HostPatience): ActivityInterfaceFor<HostActivities> {
  return proxyActivities<HostActivities>({
    taskQueue: hostQueue(hostId),
    startToCloseTimeout: '7d',
    heartbeatTimeout: heartbeatTimeoutMs,
    cancellationType,
    retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' },
  })
}

/** The transfer of a disk. Waiting for a slot is normal, so nothing limits the time until it starts; deploys use up attempts, so nothing limits those. */
export function transferSteps(
  { hostId, heartbeatTimeoutMs }: HostPatience,
  repositoryId: string,
): ActivityInterfaceFor<TransferActivities> {
  return proxyActivities<TransferActivities>({
    taskQueue: transferQueue(hostId, repositoryId),
    startToCloseTimeout: '7d',
    heartbeatTimeout: heartbeatTimeoutMs,
    cancellationType,
    retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' },
  })
}

/** Looks at the repository of a parked backup. The server keeps the time between them, so a wait of months costs a history no more than one of seconds. */
export function parkedSteps(
  { hostId, heartbeatTimeoutMs }: HostPatience,
  { firstMs, mostMs }: ParkingLooks,
): ActivityInterfaceFor<ParkingActivities> {
  return proxyActivities<ParkingActivities>({
    taskQueue: hostQueue(hostId),
    startToCloseTimeout: '5m',
    heartbeatTimeout: heartbeatTimeoutMs,
    cancellationType,
    retry: { initialInterval: firstMs, backoffCoefficient: 2, maximumInterval: mostMs },
  })
}

/** Keeping a disk mounted: as long as the longest lease, and again as soon as something of it died. */
export function mountHoldingSteps({ hostId, heartbeatTimeoutMs }: HostPatience): ActivityInterfaceFor<MountHoldingActivities> {
  return proxyActivities<MountHoldingActivities>({
    taskQueue: mountQueue(hostId),
    startToCloseTimeout: '31d',
    heartbeatTimeout: heartbeatTimeoutMs,
    cancellationType,
    retry: { initialInterval: '500ms', backoffCoefficient: 2, maximumInterval: '10s' },
  })
}
