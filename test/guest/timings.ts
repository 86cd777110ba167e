/** What the guest's timings say about its disk. */
import type { SyncedFile } from './console.ts'

/** The ms that so large a share of the files took at most. */
export function quantile(files: readonly SyncedFile[], share: number): number {
  const sorted = files.map(({ tookMs }) => tookMs).toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

/** For people. */
export function figures(files: readonly SyncedFile[]): string {
  return `median ${quantile(files, 0.5)}, 95 % ${quantile(files, 0.95)}, worst ${quantile(files, 1)} (${files.length} files)`
}
