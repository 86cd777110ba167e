/** Numbers and times as answers show them. */

/** GiB with three decimals, as the `…_gb` fields have it. */
export function gigabytes(bytes: number): number {
  return Math.round((bytes / 1024 ** 3) * 1000) / 1000
}

export function timeOrNull(time: Date | null): string | null {
  return time === null ? null : time.toISOString()
}
