/** From a kernel's error numbers to our errors, in one place for all drivers. Numbers of Linux on x86 (asm-generic/errno.h), which the reader speaks too. */
import { HoldfastError } from '../domain/errors.ts'

export const errno = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  ENXIO: 6,
  EACCES: 13,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EFBIG: 27,
  ENAMETOOLONG: 36,
  ELOOP: 40,
  EBADMSG: 74,
  EOPNOTSUPP: 95,
  EUCLEAN: 117,
  ENOKEY: 126,
} as const

/** Why something on a volume cannot be read; for `Entry.problem` and messages. */
export function problemOf(number: number): string {
  switch (number) {
    case errno.EACCES:
    case errno.EPERM:
      return 'the file system does not let it be read'
    case errno.EUCLEAN:
      return 'the file system is damaged here'
    case errno.EBADMSG:
      return 'its checksum is wrong'
    case errno.EOPNOTSUPP:
      return 'it is kept in a way that cannot be read here'
    case errno.ENOKEY:
      return 'it is encrypted'
    case errno.EFBIG:
      return 'it holds more names than can be listed here'
    case errno.EIO:
      return 'this place of the disk cannot be read'
    default:
      return `the file system answered with error ${number}`
  }
}

/**
 * The error to throw for a path of a volume: `FILE_NOT_FOUND`, `NOT_A_DIRECTORY` (also for a symbolic link on the way: `ELOOP`), `NOT_A_FILE`
 * (`EINVAL`, `EISDIR`), else `FILE_READ_FAILED` with the number in `details.errno`.
 */
export function fileError(number: number, path: string): HoldfastError {
  const shown = path === '' ? 'The root of the volume' : `"${path}"`
  const details = { path, errno: number }
  switch (number) {
    case errno.ENOENT:
    case errno.ENAMETOOLONG:
      return new HoldfastError('FILE_NOT_FOUND', `${shown} is not in this backup.`, { details })
    case errno.ENOTDIR:
      return new HoldfastError('NOT_A_DIRECTORY', `${shown} is not a folder, or lies below something that is none.`, { details })
    case errno.ELOOP:
      return new HoldfastError(
        'NOT_A_DIRECTORY',
        `${shown} leads through a symbolic link, and links are not followed. Open the folder that the link names instead.`,
        { details },
      )
    case errno.EINVAL:
    case errno.EISDIR:
      return new HoldfastError('NOT_A_FILE', `${shown} is not a regular file, so it has no content to download.`, { details })
    default:
      return new HoldfastError(
        'FILE_READ_FAILED',
        `${shown} cannot be read: ${problemOf(number)}. Other files may be readable.`,
        {
          details,
        },
      )
  }
}
