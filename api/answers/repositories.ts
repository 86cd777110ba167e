/** Repositories as the API shows them. */
import type { z } from '@hono/zod-openapi'
import type { BackupRepository } from '../../db/queries/repositories.ts'
import { isLeftAlone, storageOfRow, thresholdsOfRow } from '../../db/queries/repository-health.ts'
import type { JsonObject } from '../../domain/errors.ts'
import type { Enforcement } from '../../domain/immutability.ts'
import type { StorageInfo } from '../../domain/storage.ts'
import { healthNow, usedPercentage } from '../../domain/storage-health.ts'
import type { KnownHealth } from '../../domain/storage-health.ts'
import type { MountState } from '../../hosting/hosted-repository.ts'
import type { mountRepositoryAnswer, repository, testRepositoryAnswer } from '../schemas/repositories.ts'
import { timeOrNull } from './units.ts'

type Shown = z.infer<typeof repository>

/** From what the catalog knows alone: a list must not wait for a share. What was found before `staleBefore` is no longer claimed. */
export function repositoryAnswer(row: BackupRepository, staleBefore: Date): Shown {
  const { health, message, since } = healthOf(row, staleBefore)
  return {
    id: row.id,
    name: row.name,
    type: row.repository_type,
    enabled: row.enabled,
    accepts_backups: row.enabled && row.stopped_at === null && row.health !== 'offline',
    stopped_at: timeOrNull(row.stopped_at),
    auto_mount: row.auto_mount,
    is_immutable: row.is_immutable,
    immutable_config: immutableConfigOf(row),
    min_retention_days: row.min_retention_days,
    thresholds: thresholdsAnswer(row),
    config: shownConfig(row),
    host_id: row.host_id,
    health_status: health,
    health_message: message,
    health_since: timeOrNull(since),
    storage: {
      ...spaceOf(recordedStorage(row)),
      total_inodes: row.total_inodes,
      used_inodes: row.used_inodes,
      latency_ms: row.latency_ms,
      last_check_at: timeOrNull(row.last_check_at),
    },
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  }
}

export function healthOf(row: BackupRepository, staleBefore: Date): KnownHealth {
  const { health, health_message: message, health_since: since, last_check_at: lookedAt } = row
  return healthNow({ health, message, since, lookedAt, isLeftAlone: isLeftAlone(row) }, staleBefore)
}

export function storageAnswer(storage: StorageInfo): z.infer<typeof testRepositoryAnswer>['storage'] {
  return { ...spaceOf(storage), writable: storage.writable }
}

/** What the catalog last knew, in the form of a fresh look; registration succeeded, so the place was writable. */
export function recordedStorage(row: BackupRepository): StorageInfo {
  return { ...storageOfRow(row), writable: true }
}

export function immutabilityAnswer(enforcement: Enforcement | null): z.infer<typeof testRepositoryAnswer>['immutability'] {
  return enforcement && { enforced_by: enforcement.enforcedBy, reason: enforcement.reason }
}

export function mountAnswer(repositoryId: string, state: MountState, message: string): z.infer<typeof mountRepositoryAnswer> {
  const { mountPoint = null, source = null, fileSystem = null } = state.mounted ? state : {}
  return {
    success: true,
    repository_id: repositoryId,
    message,
    mounted: state.mounted,
    mount_point: mountPoint,
    source,
    file_system: fileSystem,
  }
}

export function spaceOf(storage: StorageInfo): Omit<z.infer<typeof testRepositoryAnswer>['storage'], 'writable'> {
  return {
    total_bytes: storage.totalBytes,
    used_bytes: storage.usedBytes,
    available_bytes: storage.availableBytes,
    used_percentage: usedPercentage(storage),
  }
}

/** Locked is claimed only where it was seen to be enforced. */
function immutableConfigOf(row: BackupRepository): Shown['immutable_config'] {
  const { is_immutable, immutable_method: method, retention_period_days } = row
  if (!is_immutable || method === null || retention_period_days === null) return null
  return {
    method,
    retention_period_days,
    locked: row.enforced_by === 'chattr',
    enforced_by: row.enforced_by,
    reason: row.enforcement_reason,
    attested_at: timeOrNull(row.attested_at),
  }
}

function thresholdsAnswer(row: BackupRepository): Shown['thresholds'] {
  const { warningPercent, criticalPercent } = thresholdsOfRow(row)
  return { warning_percent: warningPercent, critical_percent: criticalPercent }
}

/** The password is elsewhere; that there is one may be known. */
function shownConfig({ repository_type, config, credentials_id }: BackupRepository): JsonObject {
  const mayHavePassword = repository_type === 'cifs' || repository_type === 'smb'
  return mayHavePassword ? { ...config, password_set: credentials_id !== null } : config
}
