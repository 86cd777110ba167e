/**
 * Parked, not lost: a step whose repository is full, or does not answer, waits until that has passed, as long as it takes, and is then run
 * again. Steps go on where they were, so nothing is copied twice.
 */
import { log, setCurrentDetails, sleep } from '@temporalio/workflow'
import type { ParkedBackup } from '../activities/parking.ts'
import { DEFAULT_PARKING_LOOKS, parkedReasonOf } from '../domain/parking.ts'
import type { ParkingLooks } from '../domain/parking.ts'
import { controlSteps, parkedSteps } from './activity-options.ts'
import type { HostPatience } from './activity-options.ts'
import { failureOf } from './failure.ts'
import type { FailureReport } from './failure.ts'

/**
 * A step that fails again and again although its repository looks well is run less and less often, down to this many longest looks apart: for a disk an
 * hour, for the backup itself six. A try of the backup costs 29 events of a history that holds 50 000 and does not begin anew; that is more than a year.
 */
const FUTILE_LOOKS_MAX = { disk: 60, backup: 360 }

export interface Parkable extends ParkedBackup {
  host: HostPatience
  /** `null`: the backup itself waits, not one of its disks. */
  diskIndex: number | null
  looks?: ParkingLooks | undefined
}

/** Runs the step until it ends otherwise than by its repository. Cancelled while it waits, it is over at once. */
export async function outlastingRepository<T>(parkable: Parkable, step: () => Promise<T>): Promise<T> {
  const { firstMs, mostMs } = parkable.looks ?? DEFAULT_PARKING_LOOKS
  const longestMs = mostMs * (parkable.diskIndex === null ? FUTILE_LOOKS_MAX.backup : FUTILE_LOOKS_MAX.disk)
  let pauseMs = firstMs
  let furthest = -1
  for (;;) {
    try {
      return await step()
    } catch (error) {
      const failure = failureOf(error)
      if (parkedReasonOf(failure) === null) throw error
      const reached = checkpointOf(failure)
      pauseMs = reached > furthest ? firstMs : Math.min(pauseMs * 2, longestMs)
      furthest = Math.max(furthest, reached)
      await park(parkable, failure, pauseMs)
    }
  }
}

async function park(parkable: Parkable, failure: FailureReport, pauseMs: number): Promise<void> {
  const { backupId, diskIndex, reads, host, looks } = parkable
  const reason = parkedReasonOf(failure) ?? 'repository_unavailable'
  log.warn('The backup is parked', { backupId, diskIndex, reason, code: failure.code })
  setCurrentDetails(`**Parked**: ${failure.message}`)
  await controlSteps().parkBackup({ backupId, diskIndex, reason, message: failure.message })
  await sleep(pauseMs)
  await parkedSteps(host, looks ?? DEFAULT_PARKING_LOOKS).awaitRepository({ backupId, reads })
  await controlSteps().unparkBackup({ backupId, diskIndex })
  setCurrentDetails('Goes on after having been parked')
}

/** How far the step had got, as it said itself. */
function checkpointOf({ details }: FailureReport): number {
  const { checkpoint_bytes: bytes } = details
  return typeof bytes === 'number' ? bytes : 0
}
