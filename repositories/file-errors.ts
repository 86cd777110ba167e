/** What a failed file operation means for a repository. The one place where an errno becomes a code. */
import { statfs } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'
import type { ErrorCode } from '../domain/errors.ts'
import { errnoOf } from '../domain/system-errno.ts'

export { errnoOf }

const codeByErrno: Readonly<Record<string, ErrorCode>> = {
  EROFS: 'REPO_INVALID',
  EACCES: 'REPO_INVALID',
  EPERM: 'REPO_INVALID',
  ENOTDIR: 'REPO_INVALID',
  EEXIST: 'REPO_INVALID',
  ELOOP: 'REPO_INVALID',
  ENAMETOOLONG: 'REPO_INVALID',
  ENOSPC: 'INSUFFICIENT_STORAGE',
  EDQUOT: 'INSUFFICIENT_STORAGE',
}

const adviceByCode: Partial<Record<ErrorCode, string>> = {
  REPO_INVALID: 'Holdfast must be able to write there: check the path, the owner and the mount options.',
  REPO_UNAVAILABLE: 'Check that the disk or share is there and mounted; it is tried again.',
}

/**
 * Runs file operations; a failing one becomes `INSUFFICIENT_STORAGE` (with both numbers), `REPO_INVALID` or, for everything that
 * may pass (EIO, ESTALE, a root that is gone), `REPO_UNAVAILABLE`. Errors of our own pass unchanged.
 * @param doing what was tried, for the message: "publish backup-…".
 * @param requiredBytes what the operation was about to write, as far as it is known.
 */
export async function onFiles<T>(root: string, doing: string, run: () => Promise<T>, requiredBytes = 0): Promise<T> {
  try {
    return await run()
  } catch (error) {
    if (error instanceof HoldfastError) throw error
    throw await repositoryError(error, root, doing, requiredBytes)
  }
}

async function repositoryError(cause: unknown, root: string, doing: string, requiredBytes: number): Promise<HoldfastError> {
  const errno = errnoOf(cause)
  // Not a failed system call: a mistake of ours, which trying again would only repeat.
  if (errno === undefined || errno.startsWith('ERR_')) {
    return new HoldfastError('INTERNAL', `Could not ${doing} in repository ${root}.`, { cause })
  }
  const code = codeByErrno[errno] ?? 'REPO_UNAVAILABLE'
  if (code !== 'INSUFFICIENT_STORAGE') {
    return new HoldfastError(code, `Could not ${doing} in repository ${root}: ${errno}. ${adviceByCode[code]}`, {
      cause,
      details: { path: root, errno },
    })
  }
  return insufficientStorage(cause, root, doing, requiredBytes)
}

async function insufficientStorage(cause: unknown, root: string, doing: string, requiredBytes: number): Promise<HoldfastError> {
  // The number is for the message: a second failure must not hide the first.
  const availableBytes = await statfs(root).then(
    (stats) => stats.bavail * stats.bsize,
    () => 0,
  )
  return new HoldfastError(
    'INSUFFICIENT_STORAGE',
    `Repository ${root} is full: ${requiredBytes} bytes were needed to ${doing}, ${availableBytes} are free. Delete backups or add space.`,
    { cause, details: { path: root, required_bytes: requiredBytes, available_bytes: availableBytes } },
  )
}
