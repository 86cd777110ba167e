/** Progress as answers show it. */
import type { WorkState } from '../../domain/backup.ts'
import { etaSeconds, progressPercentage } from '../../domain/progress.ts'

/** A running transfer that has reported nothing for so long has no rate and no ETA worth showing. */
export const SILENT_AFTER_MS = 30_000

export interface Pace {
  ratePerSecond: number
  etaSeconds: number | null
}

const atRest: Pace = { ratePerSecond: 0, etaSeconds: null }

/** Rate and ETA of one transfer, honest about a mover that has fallen silent. */
export function paceOf(
  work: { status: WorkState; processed: number; total: number; ratePerSecond: number; reportedAt: Date | null },
  now: Date,
): Pace {
  if (work.status !== 'running') return atRest
  if (work.reportedAt !== null && now.getTime() - work.reportedAt.getTime() > SILENT_AFTER_MS) return atRest
  return { ratePerSecond: work.ratePerSecond, etaSeconds: etaSeconds(work.processed, work.total, work.ratePerSecond) }
}

/** Completed is 100 %, even of a disk without bytes. Both names, because both documents ask. */
export function percentages(
  status: WorkState,
  processed: number,
  total: number,
): { progress_percent: number; progress_percentage: number } {
  const percentage = status === 'completed' ? 100 : progressPercentage(processed, total)
  return { progress_percent: percentage, progress_percentage: percentage }
}
