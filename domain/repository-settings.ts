/** How a repository is to be treated, wherever it lies: what an administrator decides about it. */
import { HoldfastError } from './errors.ts'
import type { ImmutabilitySettings } from './immutability.ts'
import { DEFAULT_THRESHOLDS } from './storage-health.ts'
import type { Thresholds } from './storage-health.ts'

export interface RepositorySettings {
  enabled: boolean
  /** Mounted when its mover starts; otherwise by the first use. */
  autoMount: boolean
  /** `null`: the default ones. */
  thresholds: Thresholds | null
  /** `null`: its backups are not locked. */
  immutability: ImmutabilitySettings | null
  /** No backup goes before it is so old; `null`: none is kept back. */
  minRetentionDays: number | null
}

export const DEFAULT_SETTINGS: RepositorySettings = {
  enabled: true,
  autoMount: true,
  thresholds: null,
  immutability: null,
  minRetentionDays: null,
}

/** A repository that warns from half full on warns always. */
export const LOWEST_THRESHOLD_PERCENT = 50
/** A hundred years: longer is a slip of the finger, and a lock cannot be taken back. */
export const LONGEST_RETENTION_DAYS = 36_500

/** `INVALID_REQUEST` */
export function checkSettings({ thresholds, immutability, minRetentionDays }: Partial<RepositorySettings>): void {
  if (thresholds) checkThresholds(thresholds)
  if (immutability) checkDays('immutable_config.retention_period_days', immutability.retentionPeriodDays)
  if (typeof minRetentionDays === 'number') checkDays('min_retention_days', minRetentionDays)
}

/** One that is not given has its default, which must fit to the other. */
export function thresholdsOf(given: Partial<Thresholds>): Thresholds {
  return { ...DEFAULT_THRESHOLDS, ...given }
}

function checkThresholds({ warningPercent, criticalPercent }: Thresholds): void {
  const inRange = [warningPercent, criticalPercent].every(
    (percent) => Number.isInteger(percent) && percent >= LOWEST_THRESHOLD_PERCENT && percent <= 100,
  )
  if (inRange && warningPercent < criticalPercent) return
  throw new HoldfastError(
    'INVALID_REQUEST',
    `Thresholds of ${warningPercent} % and ${criticalPercent} % cannot be: give whole numbers from ${LOWEST_THRESHOLD_PERCENT} to 100, the warning below the critical one.`,
    { details: { warning_percent: warningPercent, critical_percent: criticalPercent } },
  )
}

function checkDays(field: string, days: number): void {
  if (Number.isInteger(days) && days >= 1 && days <= LONGEST_RETENTION_DAYS) return
  throw new HoldfastError('INVALID_REQUEST', `"${field}" must be a number of whole days from 1 to ${LONGEST_RETENTION_DAYS}.`, {
    details: { field },
  })
}
