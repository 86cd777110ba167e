/** Times of files, as text. File systems keep some that no calendar of ours has: those are none. */

/** RFC 3339 in UTC with nanoseconds; `null` outside the years 0 to 9999. */
export function rfc3339(seconds: number, nanoseconds: number): string | null {
  const text = isoText(seconds)
  return text === null ? null : `${text.slice(0, 19)}.${String(nanoseconds).padStart(9, '0')}Z`
}

/** As HTTP has it, without what follows the second; `null` also for times to come, which `Last-Modified` must not name. @param now milliseconds since 1970 */
export function httpDate(seconds: number, now: number): string | null {
  return isoText(seconds) === null || seconds * 1_000 > now ? null : new Date(seconds * 1_000).toUTCString()
}

function isoText(seconds: number): string | null {
  const date = new Date(seconds * 1_000)
  if (Number.isNaN(date.getTime())) return null
  const text = date.toISOString()
  // Years of other lengths have a sign, which RFC 3339 does not know.
  return /^\d{4}-/.test(text) ? text : null
}
