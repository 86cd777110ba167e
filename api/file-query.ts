/** The path in a query, taken exactly: what is asked of the mover and written into the audit trail is what the client meant. */
import { HoldfastError } from '../domain/errors.ts'
import { namesOfPath, pathOfNames } from '../domain/file-path.ts'

/**
 * `path`, decoded once already, in its shortest form. `FILE_PATH_INVALID` as {@link namesOfPath}, and when the query of `url` is not UTF-8: Hono
 * leaves bytes that it cannot decode as they stand, which would name another file.
 */
export function filePathOf(url: string, path: string): string {
  // All of it: a question mark may stand in a query, too.
  const query = url.slice(url.indexOf('?') + 1)
  try {
    decodeURIComponent(query)
  } catch (cause) {
    const hint = 'Names that are no UTF-8 are asked for just as a listing gives them.'
    throw new HoldfastError('FILE_PATH_INVALID', `The query is not percent-encoded UTF-8. ${hint}`, { cause })
  }
  return pathOfNames(namesOfPath(path))
}
