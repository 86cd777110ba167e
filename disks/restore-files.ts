/** The files of a restore: `<target>.partial` grows, `<target>.partial.journal` says how far it is, `<target>` appears at the end. */
import { constants } from 'node:fs'
import { access, lstat, open, realpath, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, normalize, sep } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import { errnoOf as systemErrnoOf } from '../domain/system-errno.ts'
import { freshJournal, readRestoreJournal, type FileIdentity, type RestoreJournal } from './restore-journal.ts'

/** Absolute paths. */
export interface RestoreFiles {
  target: string
  partial: string
  journal: string
}

/** Longest name of a file on the file systems that we know. */
const NAME_MAX_BYTES = 255
const forbiddenTrees = ['/dev', '/proc', '/sys']

/** The files for a target. `RESTORE_TARGET_INVALID` when its path cannot be one. */
export function restoreFiles(targetPath: string): RestoreFiles {
  if (!isAbsolute(targetPath) || targetPath.includes('\0') || targetPath.endsWith('/')) {
    throw invalidTarget(targetPath, 'give the absolute path of a file')
  }
  const target = normalize(targetPath)
  const files = { target, partial: `${target}.partial`, journal: `${target}.partial.journal` }
  if (Buffer.byteLength(basename(freshJournal(files.journal))) > NAME_MAX_BYTES)
    throw invalidTarget(targetPath, 'its name is too long')
  return files
}

/**
 * Checks that restore `restoreId` may write a disk to `targetPath`. Changes nothing.
 * @param repositoryRoots folders in which nothing but backups may lie, without links. They are not touched: one may lie on a share that hangs.
 *
 * `RESTORE_TARGET_INVALID` (not absolute, no such folder, not writable, inside a repository), `RESTORE_TARGET_EXISTS`.
 */
export async function checkRestoreTarget(
  targetPath: string,
  restoreId: string,
  repositoryRoots: readonly string[] = [],
): Promise<void> {
  const files = restoreFiles(targetPath)
  const folder = await targetFolder(files)
  for (const tree of forbiddenTrees) {
    if (isInside(folder, tree) && !isInside(folder, '/dev/shm')) throw invalidTarget(targetPath, `"${tree}" holds no disks`)
  }
  for (const root of repositoryRoots) {
    if (isInside(folder, root)) throw invalidTarget(targetPath, `it lies in the repository "${root}"`)
  }
  if ((await identityOf(files.target)) !== null) throw targetExists(files.target)
  const journal = await readOwnJournal(files, restoreId)
  if (journal === null && (await identityOf(files.partial)) !== null) throw targetExists(files.partial)
}

/** The journal of restore `restoreId`, or `null`. `RESTORE_TARGET_EXISTS` when it is not a journal, or that of another restore. */
export async function readOwnJournal(files: RestoreFiles, restoreId: string): Promise<RestoreJournal | null> {
  const journal = await onTarget(files.journal, () => readRestoreJournal(files.journal))
  if (journal === 'foreign') throw targetExists(files.journal)
  if (journal === null || journal.restoreId === restoreId) return journal
  throw new HoldfastError(
    'RESTORE_TARGET_EXISTS',
    `Restore ${journal.restoreId} writes to "${files.target}". Choose another name, or cancel that restore. If it has ended, remove "${files.journal}" and "${files.partial}".`,
    { details: { path: files.target, restore_id: journal.restoreId } },
  )
}

/** Which file lies at `path`, not following a link; `null` when none does. */
export async function identityOf(path: string): Promise<FileIdentity | null> {
  return onTarget(path, async () => {
    const stats = await lstat(path, { bigint: true }).catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return null
      throw error
    })
    return stats && { device: String(stats.dev), inode: String(stats.ino) }
  })
}

export function isSameFile(left: FileIdentity | null, right: FileIdentity | null): boolean {
  return left !== null && right !== null && left.device === right.device && left.inode === right.inode
}

export async function syncFolderOf(files: RestoreFiles): Promise<void> {
  const folder = await open(dirname(files.target), constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await folder.sync()
  } catch (error) {
    // Some network file systems have no fsync for folders: their server answers a rename only when it is durable.
    if (errnoOf(error) !== 'EINVAL') throw error
  } finally {
    await folder.close()
  }
}

/** The errno of a failed system call (`ENOENT`), or `undefined`. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'syscall' in error ? systemErrnoOf(error) : undefined
}

/** Runs work on the target's file system: a full one is `INSUFFICIENT_STORAGE`, any other failure `DISK_WRITE_FAILED` (retryable). */
export async function onTarget<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw targetFailure(path, error)
  }
}

const invalidErrnos = new Set(['EFBIG', 'EROFS', 'EACCES', 'EPERM', 'ENOTDIR', 'EISDIR', 'ELOOP', 'ENAMETOOLONG'])

/** What a failed system call on the target means; our own errors stay as they are. */
export function targetFailure(path: string, cause: unknown): unknown {
  const errno = errnoOf(cause)
  if (errno === undefined) return cause
  if (invalidErrnos.has(errno)) return invalidTarget(path, `the system refuses it (${errno})`, cause)
  if (errno === 'ENOSPC' || errno === 'EDQUOT') return targetFull(path, cause)
  return new HoldfastError('DISK_WRITE_FAILED', `"${path}" could not be written (${errno}). Check its disk; it is tried again.`, {
    cause,
    details: { path, errno },
  })
}

export function targetFull(path: string, cause: unknown): HoldfastError {
  return new HoldfastError(
    'INSUFFICIENT_STORAGE',
    `"${path}" could not be written: its file system is full. Free space and restore again.`,
    {
      cause,
      details: { path },
    },
  )
}

export function targetExists(path: string): HoldfastError {
  return new HoldfastError(
    'RESTORE_TARGET_EXISTS',
    `"${path}" exists and is not overwritten. Choose another name, or remove it.`,
    {
      details: { path },
    },
  )
}

/** Retryable: the next attempt starts again. */
export function replacedMeanwhile(path: string): HoldfastError {
  return new HoldfastError(
    'DISK_WRITE_FAILED',
    `"${path}" was removed or replaced while it was being written. The restore starts again.`,
    { details: { path } },
  )
}

export function invalidTarget(path: string, reason: string, cause?: unknown): HoldfastError {
  return new HoldfastError('RESTORE_TARGET_INVALID', `A disk cannot be restored to "${path}": ${reason}.`, {
    cause,
    details: { path },
  })
}

async function targetFolder(files: RestoreFiles): Promise<string> {
  const folder = dirname(files.target)
  try {
    await access(folder, constants.W_OK | constants.X_OK)
    if (!(await stat(folder)).isDirectory()) throw invalidTarget(files.target, `"${folder}" is not a folder`)
    return await realpath(folder)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw invalidTarget(files.target, `there is no folder "${folder}"; make it first`, error)
    throw targetFailure(files.target, error)
  }
}

function isInside(folder: string, tree: string): boolean {
  return folder === tree || folder.startsWith(tree.endsWith(sep) ? tree : tree + sep)
}
