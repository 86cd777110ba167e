/**
 * Until when a backup is locked: `locks/<backup id>/<end>.json`. A record is believed only if it is immutable itself, which only a locker
 * can have made it, and names the very folder by its inode: records made for another folder of the same name are not worth anything.
 * Records are added, never changed; the latest end counts.
 */
import { constants } from 'node:fs'
import { mkdir, open, rename, rmdir, unlink } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'
import type { LockPlace } from '../domain/lock-protocol.ts'
import { LOCKS_FOLDER, endOfLockRecord, lockRecordName } from '../domain/repository-layout.ts'
import { immutableAmong, setImmutable } from '../tools/chattr.ts'
import { errnoOf } from '../domain/system-errno.ts'
import { inFolder, namesIn, withFile } from './folders.ts'
import type { Folder } from './folders.ts'
import { objectIn } from './repository.ts'
import type { LockedRepository } from './repository.ts'

const FORMAT_VERSION = 1

/** The latest end that is believed; `null` without any. `backup`: `null` when its folder is gone, and the inode cannot be asked. */
export async function recordedEnd(repository: LockedRepository, place: LockPlace, backup: Folder | null): Promise<Date | null> {
  return inRecords(repository.root, place, async (folder) => {
    if (folder === null) return null
    const ends = (await believed(repository, place, folder, backup)).map(({ end }) => end.getTime())
    return ends.length === 0 ? null : new Date(Math.max(...ends))
  })
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

interface Believed {
  name: string
  end: Date
}

async function believed(
  repository: LockedRepository,
  place: LockPlace,
  folder: Folder,
  backup: Folder | null,
): Promise<Believed[]> {
  const named = (await namesIn(folder)).flatMap((name): Believed[] => {
    const end = endOfLockRecord(name)
    return end === null ? [] : [{ name, end }]
  })
  const immutable = await immutableAmong(
    folder.handlePath,
    named.map(({ name }) => name),
  )
  const records: Believed[] = []
  for (const record of named) {
    if (immutable.has(record.name) && (await isRecordOf(repository, place, folder, backup, record))) records.push(record)
  }
  return records
}

async function isRecordOf(
  repository: LockedRepository,
  place: LockPlace,
  folder: Folder,
  backup: Folder | null,
  { name, end }: Believed,
): Promise<boolean> {
  if (backup !== null && backup.device !== folder.device) return false
  const record = objectIn(await withFile(folder, name, async (file) => (file === null ? '' : file.readFile('utf8'))))
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
