/** What a failure at a disk image means for the VM it belongs to. */
import { Qcow2FormatError } from '../../disks/qcow2-header.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { ErrorCode } from '../../domain/errors.ts'

const codeByErrno: Readonly<Record<string, ErrorCode>> = {
  ENOENT: 'SOURCE_NOT_FOUND',
  ENOTDIR: 'SOURCE_NOT_FOUND',
  EACCES: 'SOURCE_INVALID',
  EPERM: 'SOURCE_INVALID',
  ELOOP: 'SOURCE_INVALID',
  EISDIR: 'SOURCE_INVALID',
  ENAMETOOLONG: 'SOURCE_INVALID',
}

const adviceByCode: Partial<Record<ErrorCode, string>> = {
  SOURCE_NOT_FOUND: 'It does not exist: check the path, or register the VM again.',
  SOURCE_INVALID: 'Holdfast must be able to read it: check the owner and the permissions.',
  SOURCE_UNAVAILABLE: 'Check the disk or share that it lies on.',
}

/** Runs a step that reads the image; a failing system call becomes the code that fits, and errors of our own pass unchanged. */
export async function onImage<T>(path: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (error) {
    if (error instanceof Qcow2FormatError) throw invalidImage(path, error.message, error)
    const errno = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
    if (error instanceof HoldfastError || errno === undefined) throw error
    const code = codeByErrno[errno] ?? 'SOURCE_UNAVAILABLE'
    throw new HoldfastError(code, `The disk image "${path}" could not be read (${errno}). ${adviceByCode[code]}`, {
      cause: error,
      details: { path, errno },
    })
  }
}

/** `SOURCE_INVALID` for an image that we will not read, with why. */
export function invalidImage(path: string, reason: string, cause?: unknown): HoldfastError {
  return new HoldfastError('SOURCE_INVALID', `The disk image "${path}" cannot be used: ${reason}.`, {
    cause,
    details: { path, reason },
  })
}
