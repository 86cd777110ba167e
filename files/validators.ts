/** What a client may remember of a download, and whether it still holds (RFC 9110, 13). A backup never changes: neither does a file in it. */
import { createHash } from 'node:crypto'
import type { FileStatus } from '../mounts/file-reader.ts'
import { httpDate } from './file-times.ts'

export interface Validators {
  etag: string
  /** `null` when HTTP has no such date. */
  lastModified: string | null
}

/**
 * The mount's id stands for the backup and its disk. The path stands for the file: inode numbers are made up anew by drivers of some file
 * systems (FAT) whenever a mount is opened again, and a download goes on after that. @param now milliseconds since 1970
 */
export function validatorsOf(mountId: string, path: string, status: FileStatus, now: number): Validators {
  const facts = [mountId, path, status.sizeBytes, status.modifiedSeconds, status.modifiedNanoseconds]
  const hash = createHash('sha256').update(JSON.stringify(facts)).digest('base64url')
  return { etag: `"${hash.slice(0, 32)}"`, lastModified: httpDate(status.modifiedSeconds, now) }
}

export interface Conditions {
  ifNoneMatch: string | undefined
  ifModifiedSince: string | undefined
  ifRange: string | undefined
}

/** Whether the client's copy is good (304). */
export function isCurrent({ etag, lastModified }: Validators, { ifNoneMatch, ifModifiedSince }: Conditions): boolean {
  if (ifNoneMatch !== undefined) {
    const known = new Set(ifNoneMatch.split(',').map((tag) => tag.trim().replace(/^W\//, '')))
    return known.has('*') || known.has(etag)
  }
  if (ifModifiedSince === undefined || lastModified === null) return false
  return Date.parse(lastModified) <= Date.parse(ifModifiedSince)
}

/** Whether a part may be sent: the client has the rest of this very file. */
export function mayContinue({ etag, lastModified }: Validators, { ifRange }: Conditions): boolean {
  return ifRange === undefined || ifRange === etag || ifRange === lastModified
}
