/** Paths on a data host, judged by their text: the API never looks at that host's disks. Links are the mover's to judge. */

/** Absolute, without `.`, `..`, empty parts or a slash at the end, and not the root: what is checked is what is used. */
export function isNormalAbsolutePath(path: string): boolean {
  if (!path.startsWith('/') || hasControlCharacter(path)) return false
  return path
    .slice(1)
    .split('/')
    .every((part) => part !== '' && part !== '.' && part !== '..')
}

/** Whether `path` is `folder` or lies in it. Both normal and absolute. */
export function liesIn(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith('/') ? folder : `${folder}/`)
}

/** Control characters (a line break forges a log line), unpaired surrogates (no file name holds them). */
function hasControlCharacter(path: string): boolean {
  return /[\p{Cc}\p{Cs}]/u.test(path)
}
