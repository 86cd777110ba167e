/** Requests to the reader and its answers. Whatever goes wrong with one end ends all of them, and the connection says so. */
import type { Readable, Writable } from 'node:stream'
import { HoldfastError } from '../../domain/errors.ts'
import { AnswerDecoder, encodeRequest, ID_MAX, senseless, type Answer, type Operation } from './protocol.ts'

interface Waiting {
  resolve: (answer: Answer) => void
  reject: (error: HoldfastError) => void
  timer: NodeJS.Timeout
}

/** What the reader's first words are. */
const GREETING = 'holdfast-reader-1'

export class Connection {
  /** Settles with the reason when nothing can be asked any more. Never rejects. */
  readonly failed: Promise<HoldfastError>
  readonly #input: Writable
  readonly #decoder = new AnswerDecoder()
  readonly #waiting = new Map<number, Waiting>()
  readonly #tellFailure: (error: HoldfastError) => void
  #error: HoldfastError | null = null
  #next = 1

  constructor({ input, output }: { input: Writable; output: Readable }) {
    this.#input = input
    const { promise, resolve } = Promise.withResolvers<HoldfastError>()
    this.failed = promise
    this.#tellFailure = resolve
    output.on('data', (piece: Buffer) => this.#hear(piece))
  }

  /** Resolves when the reader is there. `TOOL_TIMEOUT` when it says nothing for so long. */
  async greeted(timeoutMs: number): Promise<void> {
    const { payload } = await this.#answerTo(0, timeoutMs, () => notGreeted(timeoutMs))
    if (payload.toString('latin1') !== GREETING) this.#failNow(senseless('a greeting that is none'))
  }

  /** Its answer, also one that is an error number. `MOUNT_INTERRUPTED` when it does not come in time, or never will. */
  async ask(operation: Operation, parts: readonly Uint8Array[], timeoutMs: number): Promise<Answer> {
    const id = this.#next
    this.#next = id === ID_MAX ? 1 : id + 1
    const answer = this.#answerTo(id, timeoutMs, () => notAnswered(timeoutMs))
    if (!this.#error) this.#input.write(encodeRequest(id, operation, ...parts))
    return answer
  }

  /** Ends whatever runs with this error. Idempotent: the first one counts. */
  fail(error: HoldfastError): void {
    if (this.#error) return
    this.#error = error
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer)
      reject(error)
    }
    this.#waiting.clear()
    this.#tellFailure(error)
  }

  #failNow(error: HoldfastError): never {
    this.fail(error)
    throw error
  }

  #answerTo(id: number, timeoutMs: number, late: () => HoldfastError): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.#error) {
        reject(this.#error)
        return
      }
      const timer = setTimeout(() => this.fail(late()), timeoutMs)
      this.#waiting.set(id, { resolve, reject, timer })
    })
  }

  #hear(piece: Buffer): void {
    // After the end nothing is listened to: what comes may come without bounds.
    if (this.#error) return
    try {
      for (const answer of this.#decoder.push(piece)) this.#settle(answer)
    } catch (error) {
      this.fail(error instanceof HoldfastError ? error : senseless('something that cannot be read'))
    }
  }

  #settle(answer: Answer): void {
    const waiting = this.#waiting.get(answer.id)
    if (!waiting) throw senseless('an answer that nobody asked for')
    this.#waiting.delete(answer.id)
    clearTimeout(waiting.timer)
    waiting.resolve(answer)
  }
}

function notGreeted(timeoutMs: number): HoldfastError {
  return new HoldfastError(
    'TOOL_TIMEOUT',
    `User-Mode Linux did not start within ${timeoutMs} ms and was ended. Is this host overloaded?`,
    {
      details: { program: 'linux.uml', timeoutMs },
    },
  )
}

function notAnswered(timeoutMs: number): HoldfastError {
  return new HoldfastError(
    'MOUNT_INTERRUPTED',
    `What reads the file systems of this backup did not answer within ${timeoutMs} ms and was ended. The repository may be slow, or the disk damaged.`,
    { details: { timeoutMs } },
  )
}
