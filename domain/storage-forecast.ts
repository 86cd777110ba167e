/** When a repository will be full, if it goes on growing as it did. */

/** Times in milliseconds since 1970, space in bytes. */
export interface SpaceSample {
  at: number
  usedBytes: number
  availableBytes: number
}

export interface Forecast {
  /** By the straight line that fits best. `null`: there is too little to tell. */
  growthBytesPerDay: number | null
  /** In milliseconds since 1970. `null`: it does not grow, not within ten years, or nobody can tell. */
  fullAt: number | null
  /** What it rests on. */
  sampleCount: number
  spanMs: number
}

export const DAY_MS = 24 * 60 * 60 * 1000
const SAMPLES_MIN = 3
/** Less than a day shows one night's backups, or none. */
const SPAN_MIN_MS = DAY_MS
const HORIZON_MS = 10 * 365 * DAY_MS

/** The samples in any order. Where the newest lies above or below the line does not matter: from there on, only the slope counts. */
export function forecastFull(samples: readonly SpaceSample[]): Forecast {
  const ordered = samples.toSorted((one, other) => one.at - other.at)
  const [oldest, newest] = [ordered.at(0), ordered.at(-1)]
  const spanMs = oldest && newest ? newest.at - oldest.at : 0
  const basis = { sampleCount: ordered.length, spanMs }
  if (!newest || ordered.length < SAMPLES_MIN || spanMs < SPAN_MIN_MS) {
    return { growthBytesPerDay: null, fullAt: null, ...basis }
  }
  const growthBytesPerDay = Math.round(slopePerDay(ordered))
  return { growthBytesPerDay, fullAt: fullAt(newest, growthBytesPerDay), ...basis }
}

function fullAt({ at, availableBytes }: SpaceSample, growthBytesPerDay: number): number | null {
  if (growthBytesPerDay <= 0) return null
  const inMs = (availableBytes / growthBytesPerDay) * DAY_MS
  return inMs <= HORIZON_MS ? Math.round(at + inMs) : null
}

/** Least squares, around the means: times since 1970 and sizes of disks squared would not fit into numbers. */
function slopePerDay(samples: readonly SpaceSample[]): number {
  const points = samples.map(({ at, usedBytes }) => ({ day: (at - samples[0]!.at) / DAY_MS, usedBytes }))
  const meanDay = mean(points.map(({ day }) => day))
  const meanUsed = mean(points.map(({ usedBytes }) => usedBytes))
  const [joint, spread] = points.reduce(
    ([joint, spread], { day, usedBytes }): [number, number] => [
      joint + (day - meanDay) * (usedBytes - meanUsed),
      spread + (day - meanDay) ** 2,
    ],
    [0, 0],
  )
  return joint / spread
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
