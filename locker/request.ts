/** Requests as they come from outside: every member is looked at before it is used. `INVALID_REQUEST` */
import { HoldfastError } from '../domain/errors.ts'
import type { LockRequest, ProbeRequest, UnlockRequest } from '../domain/lock-protocol.ts'
import { objectIn } from './repository.ts'

/** A lock cannot be taken back: further ahead is a slip of a clock, not a wish. */
const LONGEST_MS = 101 * 366 * 24 * 60 * 60 * 1000

export function readBackupsRequest(input: string): LockRequest {
  const request = objectIn(input)
  const { backups } = request
  if (!Array.isArray(backups)) throw invalid('backups')
  return {
    root: text(request, 'root'),
    repositoryId: text(request, 'repositoryId'),
    backups: backups.map((backup: unknown) => {
      const members = typeof backup === 'object' && backup !== null ? { ...backup } : {}
      return { vmFolder: text(members, 'vmFolder'), backupId: text(members, 'backupId'), until: time(members, 'until') }
    }),
  }
}

export function readUnlockRequest(input: string): UnlockRequest {
  const request = objectIn(input)
  return {
    root: text(request, 'root'),
    repositoryId: text(request, 'repositoryId'),
    vmFolder: text(request, 'vmFolder'),
    backupId: text(request, 'backupId'),
  }
}

export function readProbeRequest(input: string): ProbeRequest {
  return { root: text(objectIn(input), 'root') }
}

function text(members: Record<string, unknown>, name: string): string {
  const value = members[name]
  if (typeof value === 'string' && value !== '') return value
  throw invalid(name)
}

function time(members: Record<string, unknown>, name: string): string {
  const at = new Date(text(members, name)).getTime()
  if (Number.isNaN(at) || at > Date.now() + LONGEST_MS) throw invalid(name)
  return new Date(at).toISOString()
}

function invalid(name: string): HoldfastError {
  return new HoldfastError('INVALID_REQUEST', `The request's "${name}" is missing, or not what it should be.`)
}
