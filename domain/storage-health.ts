/** How a repository is, judged from what looks at it found. */
import type { StorageInfo } from './storage.ts'

/**
 * - `unknown`: nobody has looked yet
 * - `healthy`, `warning`, `critical`: by how full it is, and whether it takes files
 * - `offline`: the last look got no answer
 */
export const healthStates = ['unknown', 'healthy', 'warning', 'critical', 'offline'] as const
export type HealthState = (typeof healthStates)[number]

/** In per cent of the space that backups may use; of the inodes, too, where the file system counts them. */
export interface Thresholds {
  /** From here on it warns, and below it a repository that was stopped takes new backups again. Default 90. */
  warningPercent: number
  /** From here on it takes no new backups. Default 95. */
  criticalPercent: number
}

export const DEFAULT_THRESHOLDS: Thresholds = { warningPercent: 90, criticalPercent: 95 }

/** What one look found. Unreachable is a result, not a failure. */
export type StorageLook =
  | { reached: true; storage: StorageInfo; latencyMs: number }
  | { reached: false; code: string; message: string; latencyMs: number }
