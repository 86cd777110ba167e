/** What a tar header of 1988 has no room for goes into an extended one: names with backslashes, nanoseconds, owners and times beyond its digits. */
import type { FileStatus } from '../mounts/file-reader.ts'
import { rfc3339 } from './file-times.ts'

/** Six octal digits. */
const OWNER_MAX = 0o777777
/** The library counts seconds in 32 bits. */
const SECONDS_MAX = 2 ** 31 - 1

/** As near to the file's time as plain headers come. */
export function headerDate({ modifiedSeconds }: FileStatus): Date {
  return new Date(Math.min(Math.max(modifiedSeconds, 0), SECONDS_MAX) * 1_000)
}

export interface TarFields {
  uid: number
  gid: number
  pax: Record<string, string>
}

export function tarFields(path: string, status: FileStatus): TarFields {
  const { uid, gid } = status
  return {
    uid: uid > OWNER_MAX ? 0 : uid,
    gid: gid > OWNER_MAX ? 0 : gid,
    pax: {
      // The library makes slashes of backslashes. Of two records the later one counts.
      ...(path.includes('\\') && { path: status.kind === 'directory' ? `${path}/` : path }),
      ...(uid > OWNER_MAX && { uid: String(uid) }),
      ...(gid > OWNER_MAX && { gid: String(gid) }),
      mtime: decimalTime(status),
    },
  }
}

/** Seconds since 1970 with nine decimals; 0 for times that no program could unpack. */
function decimalTime({ modifiedSeconds, modifiedNanoseconds }: FileStatus): string {
  if (rfc3339(modifiedSeconds, modifiedNanoseconds) === null) return '0'
  const total = BigInt(modifiedSeconds) * 1_000_000_000n + BigInt(modifiedNanoseconds)
  const digits = String(total < 0n ? -total : total).padStart(10, '0')
  return `${total < 0n ? '-' : ''}${digits.slice(0, -9)}.${digits.slice(-9)}`
}
