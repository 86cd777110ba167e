/** How full repositories are, how they are, and how that went. */
import { z } from '@hono/zod-openapi'
import { SAMPLES_DAYS } from '../../db/queries/repository-samples.ts'
import { percentage, sizeBytes, success, time } from './fields.ts'
import { healthStatus, repositoryType } from './repositories.ts'

const space = { total_bytes: sizeBytes, used_bytes: sizeBytes, available_bytes: sizeBytes, used_percentage: percentage }

const latency = z.int().nullable().openapi({ description: 'Of the look, with its write test, in milliseconds' })

export const refreshStorageAnswer = z
  .strictObject({
    success,
    message: z.string(),
    refreshed_count: z.int().min(0).openapi({ description: 'Repositories that answered' }),
    failed_count: z.int().min(0).openapi({ description: 'Repositories that did not, and are offline now' }),
    failures: z
      .array(z.strictObject({ repository_id: z.string(), error_code: z.string(), error: z.string() }))
      .openapi({ description: 'The first twenty of those' }),
  })
  .openapi('RefreshStorageAnswer')

export const storageAnswer = z
  .strictObject({
    success,
    repository_id: z.string(),
    repository_name: z.string(),
    health_status: healthStatus,
    health_message: z.string().nullable(),
    stopped_at: time.nullable(),
    storage: z.strictObject({
      ...space,
      total_inodes: sizeBytes.openapi({ description: '0 where the file system does not count them' }),
      used_inodes: sizeBytes,
      used_inodes_percentage: percentage,
      writable: z.boolean(),
      latency_ms: latency,
      last_check_at: time,
    }),
  })
  .openapi('StorageAnswer')

const summarized = z.strictObject({
  id: z.string(),
  name: z.string(),
  type: repositoryType,
  enabled: z.boolean(),
  ...space,
  health_status: healthStatus,
  health_message: z.string().nullable(),
  last_check_at: time.nullable(),
})

const healthCounts = z
  .strictObject({ unknown: z.int(), healthy: z.int(), warning: z.int(), critical: z.int(), offline: z.int() })
  .openapi({ description: 'How many repositories are so' })

export const storageSummaryAnswer = z
  .strictObject({
    success,
    summary: z.strictObject({
      total_repositories: z.int().min(0),
      enabled_repositories: z.int().min(0),
      total_capacity_bytes: sizeBytes,
      total_used_bytes: sizeBytes,
      total_available_bytes: sizeBytes,
      overall_used_percentage: percentage,
      health: healthCounts,
      unresolved_alerts: z.int().min(0),
      repositories: z.array(summarized).openapi({ description: 'By name, with what their last answered looks found' }),
    }),
  })
  .openapi('StorageSummaryAnswer')

export const trendQuery = z.strictObject({
  days: z.coerce.number().int().min(1).max(SAMPLES_DAYS).default(30).openapi({ description: 'How far back' }),
})

const sample = z.strictObject({
  at: time,
  ...space,
  total_inodes: sizeBytes,
  used_inodes: sizeBytes,
  latency_ms: latency,
  health_status: healthStatus,
})

export const trendAnswer = z
  .strictObject({
    success,
    repository_id: z.string(),
    from: time,
    to: time,
    samples: z.array(sample).openapi({ description: 'At most 500, oldest first. None for times when it was offline' }),
    growth_bytes_per_day: z
      .int()
      .nullable()
      .openapi({ description: 'Of the straight line that fits best; null from less than a day, or less than three samples' }),
    full_at: time.nullable().openapi({ description: 'If it goes on like this; null without growth, or beyond ten years' }),
    based_on: z.strictObject({ sample_count: z.int().min(0), span_days: z.number().min(0) }),
  })
  .openapi('TrendAnswer')
