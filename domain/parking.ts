/** Which failures a running backup waits out: what it has copied is worth more than an end. */
import type { ParkedReason } from './backup.ts'
import type { ErrorCode, JsonObject } from './errors.ts'

/** A repository that cannot be reached now; somebody can help, and nothing is lost meanwhile. */
const unavailableCodes: ReadonlySet<ErrorCode> = new Set(['REPO_UNAVAILABLE', 'REPO_AUTHENTICATION_FAILED', 'REPO_BUSY'])

/**
 * Why a backup waits after this failure; `null`: it does not. What is full must be the repository, which says so with its `repository_id`: when
 * a hypervisor's scratch folder is full, waiting costs the guest.
 */
export function parkedReasonOf({ code, details }: { code: ErrorCode; details: JsonObject }): ParkedReason | null {
  if (unavailableCodes.has(code)) return 'repository_unavailable'
  return code === 'INSUFFICIENT_STORAGE' && typeof details['repository_id'] === 'string' ? 'repository_full' : null
}

/** How often a parked backup's repository is looked at: soon at first, then less and less often. */
export interface ParkingLooks {
  firstMs: number
  mostMs: number
}

export const DEFAULT_PARKING_LOOKS: ParkingLooks = { firstMs: 5_000, mostMs: 60_000 }
