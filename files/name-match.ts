/** Names against what people look for. No regular expressions: a pattern from a request must not be able to take for ever. */

/** With `*` (any characters) or `?` (one character) the whole name must match, else a part of it will do. Case and composition of letters do not matter. */
export function nameMatcher(wanted: string): (name: string) => boolean {
  const folded = fold(wanted)
  if (!/[*?]/.test(folded)) return (name) => fold(name).includes(folded)
  const pattern = Array.from(folded)
  return (name) => matchesGlob(pattern, Array.from(fold(name)))
}

function fold(text: string): string {
  return text.normalize('NFC').toLowerCase()
}

/** Goes back to the last star only, which is enough: at most as many steps as one length times the other. */
function matchesGlob(pattern: readonly string[], name: readonly string[]): boolean {
  let at = 0
  let star = -1
  let retry = 0
  let next = 0
  while (next < name.length) {
    if (pattern[at] === '*') {
      star = at++
      retry = next
    } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === name[next])) {
      at++
      next++
    } else if (star >= 0) {
      at = star + 1
      next = ++retry
    } else return false
  }
  while (pattern[at] === '*') at++
  return at === pattern.length
}
