/** What an archive could not hold, told in a file of its own at its end. */

const NAME = '_errors.txt'
/** One or two hundred bytes each: more would help nobody. */
const LINES_MAX = 50_000
/** Paths may be long, too: all of it is held in memory until the end. */
const CHARACTERS_MAX = 16 * 1024 * 1024

export class ArchiveReport {
  readonly #lines: string[] = []
  readonly #taken = new Set<string>()
  #characters = 0
  #more = 0

  /** @param path from the root of the mount @param what happened, as the end of a sentence */
  add(path: string, what: string): void {
    if (this.#lines.length >= LINES_MAX || this.#characters >= CHARACTERS_MAX) {
      this.#more++
      return
    }
    const line = `${JSON.stringify(path)}: ${what}`
    this.#characters += line.length
    this.#lines.push(line)
  }

  /** Of what lies directly in the folder: the report must not replace it. */
  noteName(name: string): void {
    if (/^_errors(-\d+)?\.txt$/i.test(name)) this.#taken.add(name.toLowerCase())
  }

  get name(): string {
    for (let number = 1, name = NAME; ; name = `_errors-${number++}.txt`) if (!this.#taken.has(name)) return name
  }

  /** `null` when there is nothing to say. */
  text(): string | null {
    if (this.#lines.length === 0) return null
    const more = this.#more === 0 ? [] : [`… and ${this.#more} more.`]
    return `${['Not everything is in this archive as it is in the backup:', '', ...this.#lines, ...more].join('\n')}\n`
  }
}
