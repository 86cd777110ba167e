/**
 * What the locker is asked, on its standard input, and what it answers, in one line on its standard output; both JSON. The verb is its first
 * argument, and a member of the request. The locker is a program of its own: it locks at any time, and unlocks only after the end that it
 * recorded itself.
 */
import type { ErrorCode, JsonObject } from './errors.ts'
import type { Enforcement } from './immutability.ts'

export const lockerVerbs = ['lock', 'unlock', 'attest', 'probe'] as const
export type LockerVerb = (typeof lockerVerbs)[number]

/** A backup by the names of its folders. */
export interface LockPlace {
  vmFolder: string
  backupId: string
}

export interface LockRequest {
  /** Absolute path of a folder that holds the marker of `repositoryId`. */
  root: string
  repositoryId: string
  /** `until`: RFC 3339. */
  backups: (LockPlace & { until: string })[]
}

export interface LockAnswer {
  /** `until`: when the lock really ends, which may be later than asked. */
  locked: { backupId: string; until: string }[]
  failed: { backupId: string; reason: string }[]
}

export interface UnlockRequest extends LockPlace {
  root: string
  repositoryId: string
}

/** False: it was not locked. */
export interface UnlockAnswer {
  unlocked: boolean
}

export interface AttestAnswer {
  /** `missing`: what of the lock is not there, in words; empty when it holds until `until`, as it was asked, at least. */
  findings: { backupId: string; missing: string[] }[]
}

/** Need not be a repository yet. */
export interface ProbeRequest {
  root: string
}

export interface LockerCalls {
  lock: { request: LockRequest; answer: LockAnswer }
  unlock: { request: UnlockRequest; answer: UnlockAnswer }
  attest: { request: LockRequest; answer: AttestAnswer }
  probe: { request: ProbeRequest; answer: Enforcement }
}

/** The line that the locker prints. */
export type LockerLine =
  | { ok: true; answer: LockerCalls[LockerVerb]['answer'] }
  | { ok: false; code: ErrorCode; message: string; details: JsonObject; retryable: boolean }
