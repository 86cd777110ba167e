import type { Checkpoint } from './journal.ts'

interface Step {
  endBytes: number
  writtenBytes: number
  done: boolean
}

/** Steps start in the order of the disk and end in any order; the watermark is where everything before it has ended. */
export class Watermark {
  readonly #open: Step[] = []
  #head = 0
  #positionBytes: number
  #writtenBytes: number

  constructor(start: Checkpoint) {
    this.#positionBytes = start.positionBytes
    this.#writtenBytes = start.writtenBytes
  }

  /** Everything below is done, with the bytes written for it. */
  get reached(): Checkpoint {
    return { positionBytes: this.#positionBytes, writtenBytes: this.#writtenBytes }
  }

  /** Begins the next step, which ends at `endBytes` of the disk. Call the result when it is done. */
  begin(endBytes: number): (writtenBytes: number) => void {
    const step: Step = { endBytes, writtenBytes: 0, done: false }
    this.#open.push(step)
    return (writtenBytes) => {
      step.writtenBytes = writtenBytes
      step.done = true
      this.#advance()
    }
  }

  #advance(): void {
    for (let step = this.#open[this.#head]; step?.done; step = this.#open[this.#head]) {
      this.#positionBytes = step.endBytes
      this.#writtenBytes += step.writtenBytes
      this.#head += 1
    }
    // Removing from the front of an array moves the rest; do that seldom.
    if (this.#head > 1_024) this.#open.splice(0, this.#head)
    if (this.#head > 1_024) this.#head = 0
  }
}
