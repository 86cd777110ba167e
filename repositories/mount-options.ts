/** Our mount options and the administrator's as one list. */

/** Files of a repository are never run and are no devices, and nobody needs to know when they were read. */
const always = ['nosuid', 'nodev', 'noexec', 'noatime']

/** Options that say the same thing in other words. */
const synonyms = [
  ['soft', 'softerr'],
  ['vers', 'nfsvers'],
  ['noatime', 'relatime'],
]

/** Each once: what the administrator says takes the place of ours. Their options are checked before (`domain/mount-options.ts`). */
export function mountOptions(ours: readonly string[], theirs: readonly string[]): string[] {
  const said = new Set(theirs.map(subjectOf))
  return [...always, ...ours].filter((option) => !said.has(subjectOf(option))).concat(theirs)
}

function subjectOf(option: string): string {
  const name = option.split('=')[0] ?? ''
  return synonyms.find((words) => words.includes(name))?.[0] ?? name
}
