/** Progress of moving bytes. Rates are bytes per second; an ETA is seconds from now, `null` while unknown. */
export interface Progress {
  /** Bytes of the disk dealt with so far (read, known zero or unchanged), out of `totalBytes`. */
  processedBytes: number
  totalBytes: number
  /** Bytes written to the target before compression. */
  writtenBytes: number
}

export function progressPercentage(done: number, total: number): number {
  if (total <= 0) return 0
  return Math.min(100, Math.round((done / total) * 1000) / 10)
}

export function etaSeconds(done: number, total: number, ratePerSecond: number): number | null {
  if (ratePerSecond <= 0 || total <= 0) return null
  return Math.max(0, Math.ceil((total - done) / ratePerSecond))
}
