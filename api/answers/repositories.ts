/** Repositories as the API shows them. */
import type { z } from '@hono/zod-openapi'
import type { BackupRepository } from '../../db/queries/repositories.ts'
import { progressPercentage } from '../../domain/progress.ts'
import type { StorageInfo } from '../../domain/storage.ts'
import type { repository, testRepositoryAnswer } from '../schemas/repositories.ts'
import { timeOrNull } from './units.ts'

export function repositoryAnswer(row: BackupRepository): z.infer<typeof repository> {
  return {
    id: row.id,
    name: row.name,
    type: row.repository_type,
    enabled: row.enabled,
    // Nothing is claimed that is not enforced.
    is_immutable: false,
    config: row.config,
    host_id: row.host_id,
    storage: {
      total_bytes: row.total_size_bytes,
      used_bytes: row.used_size_bytes,
      available_bytes: row.available_size_bytes,
      used_percentage: progressPercentage(row.used_size_bytes, row.total_size_bytes),
      last_check_at: timeOrNull(row.last_check_at),
    },
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  }
}

export function storageAnswer(storage: StorageInfo): z.infer<typeof testRepositoryAnswer>['storage'] {
  return {
    total_bytes: storage.totalBytes,
    used_bytes: storage.usedBytes,
    available_bytes: storage.availableBytes,
    used_percentage: progressPercentage(storage.usedBytes, storage.totalBytes),
    writable: storage.writable,
  }
}

/** What the catalog last knew, in the form of a fresh look; registration succeeded, so the place was writable. */
export function recordedStorageAnswer(row: BackupRepository): z.infer<typeof testRepositoryAnswer>['storage'] {
  return storageAnswer({
    totalBytes: row.total_size_bytes,
    usedBytes: row.used_size_bytes,
    availableBytes: row.available_size_bytes,
    totalInodes: row.total_inodes,
    usedInodes: row.used_inodes,
    writable: true,
  })
}
