/**
 * Whether a repository's storage answers, found out by one question at a time. Open beyond its time it makes the storage silent, until it is answered.
 * Work that goes on counts as a sign of life: on a busy share the question may stand in a long queue.
 *
 * The time is counted in small steps, of which none may be long: a clock that is set, a machine or mover that was stopped for a while, say nothing
 * about the storage, whose answer may already wait to be read.
 */
import type { StorageInfo } from '../domain/storage.ts'
import type { Deadlines } from './deadlines.ts'

export interface SilenceOptions {
  deadlines: Pick<Deadlines, 'questionMs' | 'giveUpMs'>
  ask: () => Promise<StorageInfo>
  onSilent: (since: Date) => void
  onAnswer: (since: Date) => void
  /** It has been silent for too long. Told once. */
  onGivingUp: (since: Date) => void
}

interface Question {
  answer: Promise<StorageInfo>
  askedAt: Date
  silent: PromiseWithResolvers<'silent'>
  clock: NodeJS.Timeout
  /** How long it has been open, without anything heard meanwhile for {@link quietMs}. */
  openMs: number
  quietMs: number
  lookedAt: number
}

/** How often the time is looked at while a question is open. */
const LOOKS_PER_QUESTION = 20

export class Silence {
  readonly #options: SilenceOptions
  #question: Question | null = null
  #since: Date | null = null
  #isOver = false

  constructor(options: SilenceOptions) {
    this.#options = options
  }

  /** Since when nothing has been answered; `null`: as far as is known, it answers. */
  get since(): Date | null {
    return this.#since
  }

  /** The storage did something. */
  hear(): void {
    if (this.#question) this.#question.quietMs = 0
  }

  /** The answer, or `silent` as soon as it is. Throws what the question throws. */
  async ask(): Promise<StorageInfo | 'silent'> {
    this.#question ??= this.#begin()
    return Promise.race([this.#question.answer, this.#question.silent.promise])
  }

  /** What was asked is gone, and nothing is said of it any more. */
  end(): void {
    this.#isOver = true
    clearInterval(this.#question?.clock)
    this.#question?.silent.resolve('silent')
  }

  #begin(): Question {
    const { deadlines, ask } = this.#options
    const question: Question = {
      answer: ask(),
      askedAt: new Date(),
      silent: Promise.withResolvers<'silent'>(),
      clock: setInterval(() => this.#look(question), deadlines.questionMs / LOOKS_PER_QUESTION),
      openMs: 0,
      quietMs: 0,
      lookedAt: performance.now(),
    }
    const settle = (): void => this.#settle(question)
    question.answer.then(settle, settle)
    return question
  }

  #look(question: Question): void {
    const { deadlines, onSilent, onGivingUp } = this.#options
    const { askedAt, silent, clock } = question
    const { openMs, quietMs } = this.#count(question)
    const longestMs = deadlines.questionMs + deadlines.giveUpMs
    if (this.#since === null && (quietMs >= deadlines.questionMs || openMs >= longestMs)) {
      this.#since = askedAt
      silent.resolve('silent')
      onSilent(askedAt)
    }
    if (quietMs < longestMs) return
    clearInterval(clock)
    onGivingUp(askedAt)
  }

  #count(question: Question): Question {
    const now = performance.now()
    const stepMs = Math.min(now - question.lookedAt, (2 * this.#options.deadlines.questionMs) / LOOKS_PER_QUESTION)
    return Object.assign(question, {
      openMs: question.openMs + stepMs,
      quietMs: question.quietMs + stepMs,
      lookedAt: now,
    })
  }

  #settle({ clock }: Question): void {
    clearInterval(clock)
    this.#question = null
    const since = this.#since
    if (this.#isOver) return
    this.#since = null
    if (since) this.#options.onAnswer(since)
  }
}
