/** Names inside a repository that more than one program forms. Pure: what they are joined to is the caller's. */

/** Says what the folder is; without it nothing below is trusted. */
export const MARKER_FILE = 'holdfast-repository.json'
export const VMS_FOLDER = 'vms'
/** Until when backups are locked: a folder per backup, a record per end. Written by the locker only. */
export const LOCKS_FOLDER = 'locks'
/** Begins the names of the folders in which a locker tries what its locks are worth; one stays behind when it dies meanwhile, and goes with the next. */
export const LOCK_PROBE_PREFIX = '.holdfast-lock-probe-'

const VM_FOLDER = /^[a-z0-9][a-z0-9-]{0,80}--[a-z0-9-]{1,8}$/

/** Whether `name` could be a folder of `vmFolderName()`. */
export function isVmFolder(name: string): boolean {
  return VM_FOLDER.test(name)
}

const LOCK_RECORD = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})(\d{3})Z\.json$/

/** `20261221T080000000Z.json`; sorts by time. */
export function lockRecordName(until: Date): string {
  return `${until.toISOString().replace(/[-:.]/g, '')}.json`
}

/** The end that a record's name says; `null` for any other file. */
export function endOfLockRecord(name: string): Date | null {
  const parts = LOCK_RECORD.exec(name)
  if (!parts) return null
  const [, year, month, day, hour, minute, second, millisecond] = parts
  const end = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}.${millisecond}Z`)
  return Number.isNaN(end.getTime()) ? null : end
}
