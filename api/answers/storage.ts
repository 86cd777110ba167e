/** How repositories are, as the API shows it. */
import type { z } from '@hono/zod-openapi'
import type { BackupRepository } from '../../db/queries/repositories.ts'
import type { RepositorySample } from '../../db/queries/repository-samples.ts'
import { forecastFull } from '../../domain/storage-forecast.ts'
import { usedInodesPercentage, usedPercentage } from '../../domain/storage-health.ts'
import type { StorageRefresh } from '../../temporal/operations.ts'
import type { refreshStorageAnswer, storageAnswer, storageSummaryAnswer, trendAnswer } from '../schemas/storage.ts'
import { healthOf, recordedStorage, spaceOf } from './repositories.ts'
import { timeOrNull } from './units.ts'

const DAY_MS = 24 * 60 * 60 * 1000

export function refreshAnswer({ refreshedCount, failedCount, offline }: StorageRefresh): z.infer<typeof refreshStorageAnswer> {
  return {
    success: true,
    message: `Storage information refreshed for ${refreshedCount} repositories`,
    refreshed_count: refreshedCount,
    failed_count: failedCount,
    failures: offline.map(({ repositoryId, code, message }) => ({
      repository_id: repositoryId,
      error_code: code,
      error: message,
    })),
  }
}

/** Right after a look that was answered. */
export function lookAnswer(row: BackupRepository, { readOnly }: { readOnly: boolean }): z.infer<typeof storageAnswer> {
  const storage = recordedStorage(row)
  return {
    success: true,
    repository_id: row.id,
    repository_name: row.name,
    health_status: row.health,
    health_message: row.health_message,
    stopped_at: timeOrNull(row.stopped_at),
    storage: {
      ...spaceOf(storage),
      total_inodes: storage.totalInodes,
      used_inodes: storage.usedInodes,
      used_inodes_percentage: usedInodesPercentage(storage),
      writable: !readOnly && storage.availableBytes > 0,
      latency_ms: row.latency_ms,
      last_check_at: (row.last_check_at ?? row.updated_at).toISOString(),
    },
  }
}

/** Each counts with its whole file system: two in one file system count twice, because nothing here can see that they share it. */
export function summaryAnswer(
  rows: readonly BackupRepository[],
  { unresolvedAlerts, staleBefore }: { unresolvedAlerts: number; staleBefore: Date },
): z.infer<typeof storageSummaryAnswer> {
  const sum = (of: (row: BackupRepository) => number): number => rows.reduce((total, row) => total + of(row), 0)
  const [used, available] = [sum((row) => row.used_size_bytes), sum((row) => row.available_size_bytes)]
  const health = { unknown: 0, healthy: 0, warning: 0, critical: 0, offline: 0 }
  const shown = rows.map((row) => summarized(row, staleBefore))
  for (const { health_status } of shown) health[health_status]++
  return {
    success: true,
    summary: {
      total_repositories: rows.length,
      enabled_repositories: rows.filter((row) => row.enabled).length,
      total_capacity_bytes: sum((row) => row.total_size_bytes),
      total_used_bytes: used,
      total_available_bytes: available,
      overall_used_percentage: usedPercentage({ usedBytes: used, availableBytes: available }),
      health,
      unresolved_alerts: unresolvedAlerts,
      repositories: shown,
    },
  }
}

type Summarized = z.infer<typeof storageSummaryAnswer>['summary']['repositories'][number]

function summarized(row: BackupRepository, staleBefore: Date): Summarized {
  const { health, message } = healthOf(row, staleBefore)
  return {
    id: row.id,
    name: row.name,
    type: row.repository_type,
    enabled: row.enabled,
    ...spaceOf(recordedStorage(row)),
    health_status: health,
    health_message: message,
    last_check_at: timeOrNull(row.last_check_at),
  }
}

export function trend(
  repositoryId: string,
  { from, to }: { from: Date; to: Date },
  samples: readonly RepositorySample[],
): z.infer<typeof trendAnswer> {
  const points = samples.map((row) => ({
    at: row.sampled_at.getTime(),
    usedBytes: row.used_bytes,
    availableBytes: row.available_bytes,
  }))
  const { growthBytesPerDay, fullAt, sampleCount, spanMs } = forecastFull(points)
  return {
    success: true,
    repository_id: repositoryId,
    from: from.toISOString(),
    to: to.toISOString(),
    samples: samples.map(sampleAnswer),
    growth_bytes_per_day: growthBytesPerDay,
    full_at: fullAt === null ? null : new Date(fullAt).toISOString(),
    based_on: { sample_count: sampleCount, span_days: Math.round((spanMs / DAY_MS) * 10) / 10 },
  }
}

function sampleAnswer(row: RepositorySample): z.infer<typeof trendAnswer>['samples'][number] {
  return {
    at: row.sampled_at.toISOString(),
    total_bytes: row.total_bytes,
    used_bytes: row.used_bytes,
    available_bytes: row.available_bytes,
    used_percentage: usedPercentage({ usedBytes: row.used_bytes, availableBytes: row.available_bytes }),
    total_inodes: row.total_inodes,
    used_inodes: row.used_inodes,
    latency_ms: row.latency_ms,
    health_status: row.health,
  }
}
