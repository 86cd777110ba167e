/** What a request decides about a repository, in our own words. */
import type { z } from '@hono/zod-openapi'
import type { BackupRepository } from '../db/queries/repositories.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { ImmutabilitySettings } from '../domain/immutability.ts'
import { checkSettings, thresholdsOf } from '../domain/repository-settings.ts'
import type { RepositorySettings } from '../domain/repository-settings.ts'
import type { Thresholds } from '../domain/storage-health.ts'
import type { changeRepositoryRequest, registerRepositoryRequest } from './schemas/repositories.ts'

type RegisterRequest = z.output<typeof registerRepositoryRequest>
type ChangeRequest = z.output<typeof changeRepositoryRequest>

/** `INVALID_REQUEST` */
export function requestedSettings(request: RegisterRequest): RepositorySettings {
  const { is_immutable: immutable, immutable_config: given } = request
  if (immutable && given === undefined) throw refused('"is_immutable" needs "immutable_config" with "retention_period_days".')
  if (!immutable && given !== undefined) throw refused('"immutable_config" is only for repositories with "is_immutable".')
  const settings: RepositorySettings = {
    enabled: request.enabled,
    autoMount: request.auto_mount,
    thresholds: thresholdsIn(request.thresholds),
    immutability: immutabilityIn(given),
    minRetentionDays: request.min_retention_days ?? null,
  }
  checkSettings(settings)
  return settings
}

/** What is not given is absent. `INVALID_REQUEST` */
export function changedSettings(row: BackupRepository, change: ChangeRequest): Partial<RepositorySettings> {
  const { enabled, auto_mount: autoMount, thresholds, min_retention_days: minRetentionDays } = change
  const immutability = changedImmutability(row, change)
  const settings: Partial<RepositorySettings> = {
    ...(enabled !== undefined && { enabled }),
    ...(autoMount !== undefined && { autoMount }),
    ...(thresholds !== undefined && { thresholds: thresholdsIn(thresholds, row) }),
    ...(immutability !== undefined && { immutability }),
    ...(minRetentionDays !== undefined && { minRetentionDays }),
  }
  checkSettings(settings)
  return settings
}

function changedImmutability(row: BackupRepository, change: ChangeRequest): ImmutabilitySettings | null | undefined {
  const { is_immutable: immutable = row.is_immutable, immutable_config: given } = change
  if (change.is_immutable === undefined && given === undefined) return undefined
  if (!immutable && given !== undefined) throw refused('"immutable_config" is only for repositories with "is_immutable".')
  if (!immutable) return null
  if (given !== undefined) return immutabilityIn(given)
  if (row.is_immutable) return undefined
  throw refused('"is_immutable" needs "immutable_config" with "retention_period_days".')
}

/** Of two thresholds the one that is not given stays. */
function thresholdsIn(given: ChangeRequest['thresholds'], row?: BackupRepository): Thresholds | null {
  if (given === undefined || given === null) return null
  const warningPercent = given.warning_percent ?? row?.warning_percent
  const criticalPercent = given.critical_percent ?? row?.critical_percent
  return thresholdsOf({
    ...(typeof warningPercent === 'number' && { warningPercent }),
    ...(typeof criticalPercent === 'number' && { criticalPercent }),
  })
}

function immutabilityIn(given: RegisterRequest['immutable_config']): ImmutabilitySettings | null {
  return given === undefined ? null : { method: given.method, retentionPeriodDays: given.retention_period_days }
}

function refused(what: string): HoldfastError {
  return new HoldfastError('INVALID_REQUEST', `The request was refused: ${what}`)
}
