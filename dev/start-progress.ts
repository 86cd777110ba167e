/** Tells the person in front of the terminal what the stack is doing. */
import { howItEnded } from './node-process.ts'
import { serviceTitles } from './stack-recipes.ts'
import type { ServiceName } from './stack-recipes.ts'
import type { StackEvent } from './stack.ts'

/** Where lines go: a terminal can take a line back, anything else gets only what stays true. */
export interface ProgressOutput {
  write(text: string): unknown
  isTTY?: boolean
}

const TITLE_WIDTH = 16
const TICK_MS = 1_000
/** Without a terminal, how often a slow step is mentioned. */
const QUIET_TICKS = 10
const ERASE_LINE = '\r\u001B[K'

export class StartProgress {
  readonly #output: ProgressOutput
  #waitingFor: { title: string; since: number; ticks: number } | undefined
  #ticker: NodeJS.Timeout | undefined

  constructor(output: ProgressOutput) {
    this.#output = output
  }

  /** Shows one event of the stack; `first-admin` is the caller's business. */
  show(event: StackEvent): void {
    switch (event.kind) {
      case 'starting':
        return this.#wait(serviceTitles[event.service])
      case 'ready':
        return this.#line(event.service, `ready in ${seconds(event.tookMs)}`)
      case 'exited':
        return this.#line(
          event.service,
          `ended by itself (${howItEnded(event.exit)}); starting it again in ${seconds(event.restartInMs)}`,
        )
      case 'restarted':
        return this.#line(event.service, `runs again after ${seconds(event.tookMs)} (pid ${event.pid})`)
      case 'restart-failed':
        return this.#line(
          event.service,
          `did not start: ${messageOf(event.error)}\nNext attempt in ${seconds(event.restartInMs)}.`,
        )
      case 'stopping':
        return this.#wait(`stopping ${serviceTitles[event.service]}`)
      case 'stopped':
        return this.#line(event.service, `stopped in ${seconds(event.tookMs)}`)
      case 'progress':
        if (this.#waitingFor) this.#waitingFor.title = event.text
        return undefined
      case 'first-admin':
        return undefined
    }
  }

  /** Prints between the events. */
  print(text: string): void {
    this.#endWait()
    this.#output.write(`${text}\n`)
  }

  #line(service: ServiceName, text: string): void {
    this.print(`  ${serviceTitles[service].padEnd(TITLE_WIDTH)} ${text}`)
  }

  #wait(title: string): void {
    this.#endWait()
    const waiting = { title, since: performance.now(), ticks: 0 }
    this.#waitingFor = waiting
    this.#tick(waiting)
    this.#ticker = setInterval(() => this.#tick(waiting), TICK_MS)
    this.#ticker.unref()
  }

  #tick(waiting: { title: string; since: number; ticks: number }): void {
    const elapsed = seconds(performance.now() - waiting.since)
    if (this.#output.isTTY) this.#output.write(`${ERASE_LINE}  ${waiting.title} … ${waiting.ticks === 0 ? '' : elapsed}`)
    else if (waiting.ticks > 0 && waiting.ticks % QUIET_TICKS === 0) this.#output.write(`  ${waiting.title} … ${elapsed}\n`)
    waiting.ticks += 1
  }

  #endWait(): void {
    clearInterval(this.#ticker)
    if (this.#waitingFor && this.#output.isTTY) this.#output.write(ERASE_LINE)
    this.#waitingFor = undefined
  }
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
