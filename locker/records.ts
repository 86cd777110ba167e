/**
 * Until when a backup is locked: `locks/<backup id>/<end>.json`. A record is believed only if it is immutable itself, which only a locker
 * can have made it, and names the very folder by its inode: records made for another folder of the same name are not worth anything.
 * Nor are they while the folder is locked, unless one of them is as old as that: a locker also makes immutable what somebody else wrote, the files of
 * backups, and those could read as records. Records are added, never changed; the latest end counts.
 */
import { constants } from 'node:fs'
import { mkdir, open, rename, rmdir, stat, unlink } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'
import type { LockPlace } from '../domain/lock-protocol.ts'
import { LOCKS_FOLDER, endOfLockRecord, lockRecordName } from '../domain/repository-layout.ts'
import { immutableAmong, setImmutable } from '../tools/chattr.ts'
import { errnoOf } from '../domain/system-errno.ts'
import { ITSELF } from './flags.ts'
import { inFolder, namesIn, withFile } from './folders.ts'
import type { Folder } from './folders.ts'
import { objectIn } from './repository.ts'
import type { LockedRepository } from './repository.ts'

const FORMAT_VERSION = 1

export interface RecordedEnds {
  believed: Date
  /** By the names alone, believed or not. What a record says can be hidden, by mounting something over it; that it is there cannot. */
  named: Date
}

/** The latest ends; `null` without any that is believed. `backup`: `null` when its folder is gone, and the inode cannot be asked. */
export async function recordedEnds(
  repository: LockedRepository,
  place: LockPlace,
  backup: Folder | null,
): Promise<RecordedEnds | null> {
  return inRecords(repository.root, place, async (folder) => {
    if (folder === null) return null
    const named = await namedRecords(folder)
    const records = await believed(repository, place, folder, backup)
    return records.length === 0 ? null : { believed: latestEnd(records), named: latestEnd([...named, ...records]) }
  })
}

/** The latest end that is believed; `null` without any. */
export async function recordedEnd(repository: LockedRepository, place: LockPlace, backup: Folder | null): Promise<Date | null> {
  return (await recordedEnds(repository, place, backup))?.believed ?? null
}

/** When the last of the records that are believed came to be what it is, rounded up to what every file system can note; milliseconds since 1970. */
export async function recordedAt(repository: LockedRepository, place: LockPlace, backup: Folder): Promise<number> {
  return inRecords(repository.root, place, async (folder) => {
    const records = folder === null ? [] : await believed(repository, place, folder, backup)
    return Math.ceil(Math.max(...records.map(({ changedMs }) => changedMs))) + 1
  })
}

function latestEnd(records: readonly NamedRecord[]): Date {
  return new Date(Math.max(...records.map(({ end }) => end.getTime())))
}

/** Adds a record. When this returns it is on the disk, immutable, and believed. */
export async function addRecord(repository: LockedRepository, place: LockPlace, backup: Folder, until: Date): Promise<void> {
  await makeFolder(repository.root, LOCKS_FOLDER)
  await inFolder(repository.root, LOCKS_FOLDER, async (locks) => {
    await makeFolder(locks!, place.backupId)
    await inFolder(locks!, place.backupId, async (folder) => {
      await writeRecord(folder!, lockRecordName(until), contentOf(repository, place, backup, until))
    })
  })
  const end = await recordedEnd(repository, place, backup)
  if (end !== null && end >= until) return
  throw new HoldfastError(
    'LOCK_FAILED',
    `The record of the lock of ${place.backupId} was written, but is not there as it should be.`,
  )
}

/** Removes the records of a backup that have ended by `now`, and what a crash left of others. Idempotent. */
export async function removeRecords(
  repository: LockedRepository,
  place: LockPlace,
  backup: Folder | null,
  now: Date,
): Promise<void> {
  await inFolder(repository.root, LOCKS_FOLDER, async (locks) => {
    if (locks === null) return
    await inFolder(locks, place.backupId, async (folder) => {
      if (folder === null) return
      const ended = (await believed(repository, place, folder, backup)).filter(({ end }) => end <= now).map(({ name }) => name)
      await setImmutable(folder.handlePath, ended, false)
      for (const name of ended) await unlink(`${folder.handlePath}/${name}`)
      const names = await namesIn(folder)
      const kept = await immutableAmong(folder.handlePath, names)
      for (const name of names) if (!kept.has(name)) await unlink(`${folder.handlePath}/${name}`)
      await folder.sync()
    })
    await rmdir(`${locks.handlePath}/${place.backupId}`).catch(unlessIn(['ENOTEMPTY', 'EEXIST', 'ENOENT']))
    await locks.sync()
  })
  await rmdir(`${repository.root.handlePath}/${LOCKS_FOLDER}`).catch(unlessIn(['ENOTEMPTY', 'EEXIST', 'ENOENT']))
}

function inRecords<T>(root: Folder, { backupId }: LockPlace, work: (folder: Folder | null) => Promise<T>): Promise<T> {
  return inFolder(root, LOCKS_FOLDER, async (locks) => (locks === null ? work(null) : inFolder(locks, backupId, work)))
}

interface NamedRecord {
  name: string
  end: Date
}

interface Believed extends NamedRecord {
  changedMs: number
}

async function namedRecords(folder: Folder): Promise<NamedRecord[]> {
  return (await namesIn(folder)).flatMap((name): NamedRecord[] => {
    const end = endOfLockRecord(name)
    return end === null ? [] : [{ name, end }]
  })
}

async function believed(
  repository: LockedRepository,
  place: LockPlace,
  folder: Folder,
  backup: Folder | null,
): Promise<Believed[]> {
  const named = await namedRecords(folder)
  const immutable = await immutableAmong(
    folder.handlePath,
    named.map(({ name }) => name),
  )
  const records: Believed[] = []
  for (const record of named) {
    if (!immutable.has(record.name)) continue
    const changedMs = await withFile(folder, record.name, async (file) => {
      if (file === null || !isRecordOf(repository, place, backup, record, await file.readFile('utf8'))) return null
      return (await file.stat()).ctimeMs
    })
    if (changedMs !== null) records.push({ ...record, changedMs })
  }
  if (backup === null) return records
  return backup.device === folder.device && (await areOfItsLock(backup, records)) ? records : []
}

/** A folder that is locked has the time of its first records, and keeps it. A file's time of change goes forward only, whoever may do what. */
async function areOfItsLock(backup: Folder, records: readonly Believed[]): Promise<boolean> {
  if (!(await immutableAmong(backup.handlePath, [ITSELF])).has(ITSELF)) return true
  const { mtimeMs } = await stat(backup.handlePath)
  return records.some(({ changedMs }) => changedMs <= mtimeMs)
}

function isRecordOf(
  repository: LockedRepository,
  place: LockPlace,
  backup: Folder | null,
  { end }: NamedRecord,
  content: string,
): boolean {
  const record = objectIn(content)
  return (
    record['format_version'] === FORMAT_VERSION &&
    record['repository_id'] === repository.id &&
    record['vm_folder'] === place.vmFolder &&
    record['backup_id'] === place.backupId &&
    record['until'] === end.toISOString() &&
    (backup === null || record['folder_inode'] === String(backup.inode))
  )
}

function contentOf({ id }: LockedRepository, place: LockPlace, backup: Folder, until: Date): string {
  const record = {
    format_version: FORMAT_VERSION,
    repository_id: id,
    vm_folder: place.vmFolder,
    backup_id: place.backupId,
    folder_inode: String(backup.inode),
    until: until.toISOString(),
    recorded_at: new Date().toISOString(),
  }
  return `${JSON.stringify(record, null, 2)}\n`
}

/** Whole or not at all: a crash leaves a temporary name, or a record without the flag, which the next attempt replaces. */
async function writeRecord(folder: Folder, name: string, content: string): Promise<void> {
  const temporary = `${folder.handlePath}/.${name}`
  await unlink(temporary).catch(unlessIn(['ENOENT']))
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
  const file = await open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
  try {
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, `${folder.handlePath}/${name}`)
  await setImmutable(folder.handlePath, [name], true)
  await withFile(folder, name, async (record) => record?.sync())
  await folder.sync()
}

async function makeFolder(parent: Folder, name: string): Promise<void> {
  await mkdir(`${parent.handlePath}/${name}`, { mode: 0o700 }).catch(unlessIn(['EEXIST']))
  await parent.sync()
}

function unlessIn(expected: readonly string[]): (error: unknown) => void {
  return (error) => {
    if (!expected.includes(errnoOf(error) ?? '')) throw error
  }
}
