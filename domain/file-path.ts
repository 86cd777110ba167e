/** Paths of files inside a restore mount, as requests name them: `/`, `/etc/hosts`, with several volumes `/partition-1/etc/hosts`. */
import { HoldfastError } from './errors.ts'

/** Linux takes no longer names; 255 bytes of UTF-16 (NTFS) make up to 765 of UTF-8. */
const NAME_MAX_BYTES = 1_024
const PATH_MAX_CHARACTERS = 32_768
const DEPTH_MAX = 4_096

/**
 * The names on the way, outermost first; none for the root. A slash at the end and doubled slashes are forgiven. `FILE_PATH_INVALID` for what is not
 * absolute, holds NUL or `.` or `..` as a name, or is longer than any file system's paths.
 */
export function namesOfPath(path: string): string[] {
  if (!path.startsWith('/')) throw invalid('must begin with "/"')
  if (path.includes('\0')) throw invalid('holds a NUL character')
  if (path.length > PATH_MAX_CHARACTERS) throw invalid(`is longer than ${PATH_MAX_CHARACTERS} characters`)
  const names = path.split('/').filter((name) => name !== '')
  if (names.length > DEPTH_MAX) throw invalid(`is more than ${DEPTH_MAX} folders deep`)
  if (names.some((name) => name === '.' || name === '..')) throw invalid('holds "." or ".." as a name')
  if (names.some((name) => name.length > NAME_MAX_BYTES)) throw invalid('holds a name that is longer than any file system allows')
  return names
}

/** The path that {@link namesOfPath} reads these names from. */
export function pathOfNames(names: readonly string[]): string {
  return `/${names.join('/')}`
}

function invalid(why: string): HoldfastError {
  return new HoldfastError('FILE_PATH_INVALID', `The path ${why}. Give an absolute path of this mount, such as "/etc/hosts".`)
}
