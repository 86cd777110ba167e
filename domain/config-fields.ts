/** Reading a configuration that somebody wrote: member by member, remembering what is wrong with each. Values are never repeated: one may be a password. */
import { HoldfastError } from './errors.ts'
import type { JsonObject } from './errors.ts'
import { contradictionIn, mountOptionIssue } from './mount-options.ts'

/** The one spelling of a text, or `null` when it is not allowed. */
export type Normal = (text: string) => string | null

const MOUNT_OPTIONS_MAX = 32
const ISSUES_MAX = 20

interface Issue extends JsonObject {
  path: string
  message: string
}

export class ConfigFields {
  readonly #config: Readonly<Record<string, unknown>>
  readonly #known = new Set<string>()
  readonly #issues: Issue[] = []

  constructor(config: Readonly<Record<string, unknown>>) {
    this.#config = config
  }

  /** What is returned for a wrong one is never used: {@link finish} throws. */
  text(name: string, normal: Normal, advice: string): string {
    const value = this.#take(name)
    const text = typeof value === 'string' ? normal(value) : null
    return text ?? this.#refuse(name, value === undefined ? `is missing: ${advice}` : advice)
  }

  optionalText(name: string, normal: Normal, advice: string): string | null {
    const value = this.#take(name)
    return value === undefined || value === null ? null : this.text(name, normal, advice)
  }

  mountOptions(fileSystem: 'nfs' | 'cifs'): string[] {
    const given = this.#take('mount_options') ?? []
    if (!Array.isArray(given) || given.length > MOUNT_OPTIONS_MAX || !given.every((option) => typeof option === 'string')) {
      this.#refuse('mount_options', `give a list of at most ${MOUNT_OPTIONS_MAX} strings, each one option`)
      return []
    }
    const options: string[] = given
    for (const [index, option] of options.entries()) {
      const issue = mountOptionIssue(fileSystem, option)
      if (issue !== null) this.#refuse(`mount_options.${index}`, issue)
    }
    const repeated = contradictionIn(options)
    if (repeated !== null) this.#refuse(`mount_options.${repeated}`, 'repeats or contradicts an option before it')
    return options
  }

  /** `INVALID_REQUEST` when anything was wrong. */
  finish(): void {
    if (Object.keys(this.#config).some((name) => !this.#known.has(name))) {
      this.#issues.push({ path: 'config', message: `takes only ${[...this.#known].join(', ')}` })
    }
    const [first] = this.#issues
    if (!first) return
    const message = `The repository's configuration was refused: "${first.path}": ${first.message}.`
    throw new HoldfastError('INVALID_REQUEST', message, { details: { issues: this.#issues.slice(0, ISSUES_MAX) } })
  }

  #take(name: string): unknown {
    this.#known.add(name)
    return Object.hasOwn(this.#config, name) ? this.#config[name] : undefined
  }

  #refuse(name: string, message: string): string {
    this.#issues.push({ path: `config.${name}`, message })
    return ''
  }
}
