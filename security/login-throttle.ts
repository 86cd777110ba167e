/**
 * Slows down guessing. Per user name and address: an attacker elsewhere cannot lock the real user out.
 * The rule is pure; the store is the memory of one process, so a restart forgives.
 */
import { HoldfastError } from '../domain/errors.ts'

/** Wrong passwords that cost nothing: people mistype. */
export const FREE_ATTEMPTS = 5
const FIRST_WAIT_MS = 1_000
const LONGEST_WAIT_MS = 15 * 60_000
/** After so long without an attempt, all is forgotten. */
const FORGET_AFTER_MS = 60 * 60_000
const REMEMBERED_MAX = 10_000

export interface Attempts {
  /** Attempts since the last success. */
  count: number
  lastAtMs: number
}

/** The wait that follows `count` failed attempts: none at first, then doubling from a second to a quarter of an hour. */
export function waitAfterMs(count: number): number {
  if (count < FREE_ATTEMPTS) return 0
  return Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (count - FREE_ATTEMPTS))
}

/** When the next attempt is allowed, in milliseconds; in the past when it is allowed now. */
export function nextAttemptAtMs(attempts: Attempts | undefined): number {
  return attempts === undefined ? 0 : attempts.lastAtMs + waitAfterMs(attempts.count)
}

export interface LoginThrottle {
  /**
   * Asks before a password is checked, and counts the attempt at once, so that many at a time gain nothing.
   * `LOGIN_THROTTLED` with `retry_after_seconds` (also in the message); a refused attempt does not lengthen the wait.
   */
  admit(username: string, address: string): void
  /** The password was right: past attempts no longer count. */
  succeeded(username: string, address: string): void
}

export function createLoginThrottle(now: () => number = Date.now): LoginThrottle {
  // A Map keeps insertion order; each attempt moves its entry to the end, so the first entries are the stalest.
  const remembered = new Map<string, Attempts>()
  const keyOf = (username: string, address: string): string => JSON.stringify([username, address])

  return {
    admit(username, address) {
      const key = keyOf(username, address)
      const atMs = now()
      forgetOld(remembered, atMs)
      const attempts = remembered.get(key)
      const waitMs = nextAttemptAtMs(attempts) - atMs
      if (waitMs > 0) throw throttled(waitMs)
      remembered.delete(key)
      remembered.set(key, { count: (attempts?.count ?? 0) + 1, lastAtMs: atMs })
    },
    succeeded(username, address) {
      remembered.delete(keyOf(username, address))
    },
  }
}

function forgetOld(remembered: Map<string, Attempts>, atMs: number): void {
  for (const [key, attempts] of remembered) {
    if (attempts.lastAtMs + FORGET_AFTER_MS > atMs && remembered.size < REMEMBERED_MAX) return
    remembered.delete(key)
  }
}

function throttled(waitMs: number): HoldfastError {
  const seconds = Math.ceil(waitMs / 1000)
  return new HoldfastError('LOGIN_THROTTLED', `Too many failed logins. Try again in ${seconds} s.`, {
    details: { retry_after_seconds: seconds },
  })
}
