/** The locks of one backup: the flag on each file and on the folder, and whether it does what it says. */
import { constants } from 'node:fs'
import { open, unlink } from 'node:fs/promises'
import { immutableAmong, setImmutable } from '../tools/chattr.ts'
import { errnoOf } from '../domain/system-errno.ts'
import { withFile } from './folders.ts'
import type { Folder } from './folders.ts'

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants

/** The folder itself, as programs that run inside it name it. */
export const ITSELF = '.'

/**
 * Files first: a folder without the flag shows whoever comes next that the locking was interrupted. The folder gets the time of its records,
 * `recordedAtMs`, before it gets the flag: whatever is made later is no record of this lock. Idempotent.
 */
export async function setFlags(backup: Folder, files: readonly string[], recordedAtMs: number): Promise<void> {
  const set = await immutableAmong(backup.handlePath, [...files, ITSELF])
  await setImmutable(
    backup.handlePath,
    files.filter((name) => !set.has(name)),
    true,
  )
  for (const name of files) await withFile(backup, name, async (file) => file?.sync())
  if (!set.has(ITSELF)) {
    await backup.setModified(recordedAtMs)
    await setImmutable(backup.handlePath, [ITSELF], true)
  }
  await backup.sync()
}

/** Files first: as long as the folder has the flag, nobody can slip another file among them. Idempotent. */
export async function clearFlags(backup: Folder, files: readonly string[]): Promise<void> {
  const set = await immutableAmong(backup.handlePath, [...files, ITSELF])
  await setImmutable(
    backup.handlePath,
    files.filter((name) => set.has(name)),
    false,
  )
  if (set.has(ITSELF)) await setImmutable(backup.handlePath, [ITSELF], false)
  await backup.sync()
}

/**
 * What of the lock is not there, in words. It is not enough that `lsattr` shows the flags: files are opened for writing, and a name is
 * made in the folder, and both must be refused.
 */
export async function missingFlags(backup: Folder, files: readonly string[]): Promise<string[]> {
  const set = await immutableAmong(backup.handlePath, [...files, ITSELF])
  const missing = [...files, ITSELF].filter((name) => !set.has(name)).map((name) => `${titleOf(name)} is not locked`)
  if (missing.length > 0) return missing
  for (const name of files) {
    if (await opensForWriting(backup, name)) missing.push(`${titleOf(name)} can be written to although it is marked immutable`)
  }
  if (await takesNames(backup)) missing.push('the folder takes new files although it is marked immutable')
  return missing
}

function titleOf(name: string): string {
  return name === ITSELF ? 'the folder' : name
}

async function opensForWriting(backup: Folder, name: string): Promise<boolean> {
  try {
    await (await open(`${backup.handlePath}/${name}`, O_WRONLY | O_NOFOLLOW)).close()
    return true
  } catch (error) {
    if (errnoOf(error) === 'EPERM') return false
    throw error
  }
}

async function takesNames(backup: Folder): Promise<boolean> {
  const path = `${backup.handlePath}/.lock-check`
  try {
    await (await open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)).close()
  } catch (error) {
    if (errnoOf(error) === 'EPERM') return false
    throw error
  }
  await unlink(path)
  return true
}
