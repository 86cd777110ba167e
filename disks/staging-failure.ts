import { HoldfastError } from '../domain/errors.ts'
import { errnoOf } from '../domain/system-errno.ts'

/** `No space left on device` and `Disk quota exceeded`: only a person can help. */
const fullCodes = new Set(['ENOSPC', 'EDQUOT'])
const FULL_WORDS = /No space left on device|Disk quota exceeded/

/**
 * Runs what writes into a staging folder. Errors of the file system, and of programs that met a full one, become `INSUFFICIENT_STORAGE`
 * (lasting) or `DISK_WRITE_FAILED` (retryable); all others pass unchanged.
 */
export async function whileStaging<T>(diskIndex: number, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw stagingFailure(diskIndex, error)
  }
}

function stagingFailure(diskIndex: number, error: unknown): unknown {
  const details = { disk: diskIndex }
  const metFullDisk = error instanceof HoldfastError && error.code === 'TOOL_FAILED' && FULL_WORDS.test(error.message)
  const systemCode = systemCodeOf(error)
  if (metFullDisk || (systemCode !== null && fullCodes.has(systemCode))) {
    return new HoldfastError(
      'INSUFFICIENT_STORAGE',
      `The repository is full: the files of disk ${diskIndex} could not be written. Delete backups or add space.`,
      { details, cause: error },
    )
  }
  if (systemCode === null) return error
  return new HoldfastError(
    'DISK_WRITE_FAILED',
    `The files of disk ${diskIndex} could not be written: ${String(error)}. The next attempt goes on from the last checkpoint.`,
    { details, cause: error },
  )
}

/** The code of an error that the operating system raised. */
function systemCodeOf(error: unknown): string | null {
  if (!(error instanceof Error) || error instanceof HoldfastError || !('syscall' in error)) return null
  return errnoOf(error) ?? null
}
