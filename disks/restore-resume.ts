/** Where a restore begins: at the start of a new file, where an earlier attempt stopped, or at the end. */
import { chmod, open } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'
import { checkImage, createImage } from '../tools/qemu-img.ts'
import { qcow2SizeBytes } from './chain.ts'
import { RANGE_BYTES } from './range-claims.ts'
import {
  identityOf,
  isSameFile,
  onTarget,
  readOwnJournal,
  syncFolderOf,
  targetExists,
  targetFull,
  type RestoreFiles,
} from './restore-files.ts'
import {
  isSameRestore,
  writeRestoreJournal,
  type FileIdentity,
  type RestoreIdentity,
  type RestoreJournal,
} from './restore-journal.ts'
import { discardTraces, isPlaceholder, removeTraces } from './restore-publication.ts'

export type RestoreStart =
  | { isPublished: true }
  /** The `.partial` file exists and is durable up to `reachedBytes`. */
  | { isPublished: false; reachedBytes: number; file: FileIdentity }

/**
 * Finds out what an earlier attempt left, and makes a fresh `.partial` when nothing of it can be used. What this restore did not write
 * is not touched, be it another restore's: `RESTORE_TARGET_EXISTS`. Other errors are those of the target's file system.
 */
export async function beginRestore(
  files: RestoreFiles,
  identity: RestoreIdentity,
  signal: AbortSignal | undefined,
): Promise<RestoreStart> {
  const journal = await readOwnJournal(files, identity.restoreId)
  if (journal && !isSameRestore(journal, identity)) throw targetExists(files.journal)
  const target = await identityOf(files.target)
  if (journal?.reachedBytes === identity.sizeBytes && isSameFile(target, journal.file)) {
    // The crash came after the target had got its name.
    await removeTraces(files)
    return { isPublished: true }
  }
  if (target !== null && !(journal && (await isPlaceholder(files, journal)))) throw targetExists(files.target)
  const partial = await identityOf(files.partial)
  if (journal && partial && (await canGoOn(files, journal, partial, signal))) {
    return { isPublished: false, reachedBytes: journal.reachedBytes, file: partial }
  }
  if (journal) await discardTraces(files, journal)
  else if (partial) throw targetExists(files.partial)
  return { isPublished: false, reachedBytes: 0, file: await createPartial(files, identity, signal) }
}

async function canGoOn(
  files: RestoreFiles,
  journal: RestoreJournal,
  partial: FileIdentity,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { reachedBytes, sizeBytes } = journal
  if (!isSameFile(partial, journal.file)) return false
  if (reachedBytes > sizeBytes || (reachedBytes % RANGE_BYTES !== 0 && reachedBytes !== sizeBytes)) return false
  return journal.targetFormat === 'raw' || isSoundImage(files.partial, signal)
}

async function isSoundImage(path: string, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    return (await checkImage(path, { signal })).corruptions === 0
  } catch (error) {
    // No image at all: a crash between making the file and writing its header.
    if (error instanceof HoldfastError && error.code === 'TOOL_FAILED') return false
    throw error
  }
}

/** The journal comes first: a file that it does not announce would not be ours. */
async function createPartial(
  files: RestoreFiles,
  identity: RestoreIdentity,
  signal: AbortSignal | undefined,
): Promise<FileIdentity> {
  return onTarget(files.partial, async () => {
    const journal = { ...identity, reachedBytes: 0 }
    await writeRestoreJournal(files.journal, { ...journal, file: null })
    if (identity.targetFormat === 'raw') await createRaw(files.partial, identity.sizeBytes)
    else await createQcow2(files.partial, identity.sizeBytes, signal)
    const file = await identityOf(files.partial)
    if (file === null) throw new HoldfastError('DISK_WRITE_FAILED', `"${files.partial}" vanished while it was being made.`)
    await writeRestoreJournal(files.journal, { ...journal, file })
    await syncFolderOf(files)
    return file
  })
}

async function createRaw(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.truncate(sizeBytes)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function createQcow2(path: string, sizeBytes: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await createImage({ path, sizeBytes: qcow2SizeBytes(sizeBytes), compression: 'none', backing: null, signal })
    // It will hold what only the guest's owner could read.
    await chmod(path, 0o600)
  } catch (error) {
    if (error instanceof HoldfastError && error.message.includes('No space left on device')) throw targetFull(path, error)
    throw error
  }
}
