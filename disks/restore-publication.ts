/** How a restored file gets its name, and how an unfinished one goes: never over another file, and never with another restore's. */
import { constants } from 'node:fs'
import { link, lstat, open, rename, rm } from 'node:fs/promises'
import {
  errnoOf,
  identityOf,
  isSameFile,
  onTarget,
  readOwnJournal,
  replacedMeanwhile,
  restoreFiles,
  syncFolderOf,
  targetExists,
  type RestoreFiles,
} from './restore-files.ts'
import {
  freshJournal,
  readRestoreJournal,
  writeRestoreJournal,
  type FileIdentity,
  type RestoreJournal,
} from './restore-journal.ts'

/**
 * Removes what an unfinished restore left beside its target; never the target, and nothing that another restore or somebody else
 * wrote. Idempotent. `DISK_WRITE_FAILED` when it cannot be removed.
 */
export async function discardRestore(targetPath: string, restoreId: string): Promise<void> {
  const files = restoreFiles(targetPath)
  const journal = await onTarget(files.journal, () => readRestoreJournal(files.journal))
  if (journal === null || journal === 'foreign' || journal.restoreId !== restoreId) return
  await discardTraces(files, journal)
}

/** The same when the journal is known to be that of this restore. */
export async function discardTraces(files: RestoreFiles, journal: RestoreJournal): Promise<void> {
  await onTarget(files.target, async () => {
    if (await isPlaceholder(files, journal)) await rm(files.target)
  })
  await removeTraces(files)
}

/** Removes the journal, and the second name of a target that has its own. */
export async function removeTraces(files: RestoreFiles): Promise<void> {
  await onTarget(files.partial, async () => {
    await rm(files.partial, { force: true })
    await rm(freshJournal(files.journal), { force: true })
    // Last: as long as it lies there, the others are known to be ours.
    await rm(files.journal, { force: true })
    await syncFolderOf(files)
  })
}

/**
 * The journal of a restore that still owns its target: it is ours, and the `.partial` is the file that was written.
 * `RESTORE_TARGET_EXISTS` when another restore has taken over; `DISK_WRITE_FAILED` (retryable) when somebody removed or replaced files.
 */
export async function requireOwnership(files: RestoreFiles, restoreId: string, file: FileIdentity): Promise<RestoreJournal> {
  const journal = await readOwnJournal(files, restoreId)
  if (journal !== null && isSameFile(await identityOf(files.partial), file)) return journal
  throw replacedMeanwhile(files.partial)
}

/**
 * Gives the finished `file` its name, which nobody else may have taken: `RESTORE_TARGET_EXISTS`. Other errors are those of
 * {@link requireOwnership}. Repeating it after a crash is harmless.
 */
export async function publishTarget(files: RestoreFiles, restoreId: string, file: FileIdentity): Promise<void> {
  await onTarget(files.target, async () => {
    const journal = await requireOwnership(files, restoreId, file)
    await syncFile(files.partial)
    await takeName(files, journal, file)
    await syncFolderOf(files)
    await removeTraces(files)
  })
}

async function takeName(files: RestoreFiles, journal: RestoreJournal, file: FileIdentity): Promise<void> {
  try {
    await link(files.partial, files.target)
  } catch (error) {
    const errno = errnoOf(error) ?? ''
    if (errno !== 'EEXIST' && !withoutLinks.has(errno)) throw error
    // The crash came after the name was given, or after it was held.
    if (isSameFile(await identityOf(files.target), file)) return
    if (await isPlaceholder(files, journal)) return rename(files.partial, files.target)
    if (errno === 'EEXIST') throw targetExists(files.target)
    return renameWithoutReplacing(files, journal)
  }
  const named = await identityOf(files.target)
  if (isSameFile(named, file)) return
  // The name went to what somebody put in our file's place at this instant: it is taken back.
  if (isSameFile(named, await identityOf(files.partial))) await rm(files.target)
  throw targetExists(files.partial)
}

/** File systems without hard links: FAT, many network shares. */
const withoutLinks = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'])

/**
 * The name is taken with an empty file first: that fails when somebody has it, a rename would not. The journal says which file that is,
 * so that a crash in between leaves nothing that would be taken for somebody's.
 */
export async function renameWithoutReplacing(files: RestoreFiles, journal: RestoreJournal): Promise<void> {
  const file = await open(files.target, 'wx').catch((error: unknown) => {
    throw errnoOf(error) === 'EEXIST' ? targetExists(files.target) : error
  })
  await file.close()
  try {
    await writeRestoreJournal(files.journal, { ...journal, placeholder: await identityOf(files.target) })
  } catch (error) {
    await rm(files.target, { force: true })
    throw error
  }
  await rename(files.partial, files.target)
}

/** Whether the target is the empty file that only holds its name. Something that was written into is somebody's. */
export async function isPlaceholder(files: RestoreFiles, { placeholder }: RestoreJournal): Promise<boolean> {
  if (!placeholder || !isSameFile(await identityOf(files.target), placeholder)) return false
  const { size } = await onTarget(files.target, () => lstat(files.target))
  return size === 0
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}
