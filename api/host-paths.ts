/** Paths on a data host, judged by their text: the API never looks at that host's disks. Links are the mover's to judge. */

/** Absolute, without `.`, `..`, empty parts or a slash at the end, and not the root: what is checked is what is used. */
export function isNormalAbsolutePath(path: string): boolean {
  if (!path.startsWith('/') || hasControlCharacter(path)) return false
  return path
    .slice(1)
    .split('/')
    .every((part) => part !== '' && part !== '.' && part !== '..')
}

/** Control characters (a line break forges a log line), unpaired surrogates (no file name holds them). */
function hasControlCharacter(path: string): boolean {
  return /[\p{Cc}\p{Cs}]/u.test(path)
}
