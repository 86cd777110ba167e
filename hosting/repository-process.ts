/** One process that works on one repository, from its start to its end. What it is asked is answered, by the process or by its end. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { EventEmitter } from 'node:events'
import { HoldfastError } from '../domain/errors.ts'
import { fromPortable, type PortableError } from '../domain/portable-error.ts'
import { startTool, unexpectedExit, type RunningTool } from '../tools/run-tool.ts'
import type { FromProcess, ToProcess } from './process/messages.ts'
import type { Input, Output, Verb, Watching } from './verbs.ts'

const PROGRAM = new URL('./process/main.ts', import.meta.url).pathname
/** Calls to storage that hangs take one thread each, and others must still get through. */
const THREADS = '32'

export class RepositoryProcess {
  readonly #tool: RunningTool
  /** What comes back, by the call's number: `done`, `failed`, `progress`. */
  readonly #answers = new EventEmitter().setMaxListeners(0)
  readonly #over = new AbortController()
  /** Settles when the process is gone. That can be long after it was killed. */
  readonly ended: Promise<void>
  #lastId = 0

  constructor(repositoryId: string, root: string) {
    this.#tool = startTool(process.execPath, [PROGRAM, repositoryId, root], {
      messages: true,
      // Ctrl-C is for the mover, which ends its transfers in order.
      ownSession: true,
      env: { UV_THREADPOOL_SIZE: THREADS },
    })
    this.#tool.messages?.incoming.on('message', (message: FromProcess) => this.#hear(message))
    this.ended = this.#tool.exited.then(async () => this.#over.abort(crashed(repositoryId, await unexpectedExit(this.#tool))))
  }

  get pid(): number {
    return this.#tool.pid
  }

  /** Rejects with the verb's own error, or `REPO_UNAVAILABLE` when the process ends first. An abort is passed on; whether it helps is for the caller to see. */
  async call<V extends Verb>(verb: V, input: Input<V>, { signal, onProgress }: Watching<V> = {}): Promise<Output<V>> {
    this.#over.signal.throwIfAborted()
    const id = ++this.#lastId
    const abort = (): void => this.#tell({ type: 'abort', id })
    const answers = this.#answers
    const over = this.#over.signal
    // Of this call alone: the process outlives thousands of them.
    const done = new AbortController()
    try {
      return await new Promise<Output<V>>((resolve, reject) => {
        answers.once(`done ${id}`, resolve)
        answers.once(`failed ${id}`, (failure: PortableError) => reject(fromPortable(failure)))
        // Messages come in the name of whoever started the process; this one is for whoever called.
        if (onProgress) answers.on(`progress ${id}`, AsyncLocalStorage.bind(onProgress))
        over.addEventListener('abort', () => reject(over.reason), { once: true, signal: done.signal })
        signal?.addEventListener('abort', abort, { once: true })
        this.#tell({ type: 'call', id, verb, input })
        if (signal?.aborted) abort()
      })
    } finally {
      done.abort()
      signal?.removeEventListener('abort', abort)
      for (const kind of ['done', 'failed', 'progress']) answers.removeAllListeners(`${kind} ${id}`)
    }
  }

  /** Everything that waits gets `reason` at once. Returns at once, too: {@link ended} tells when it is gone. Idempotent. */
  kill(reason: HoldfastError): void {
    this.#over.abort(reason)
    void this.#tool.stop(0)
  }

  #tell(message: ToProcess): void {
    this.#tool.messages?.send(message)
  }

  #hear(message: FromProcess): void {
    if (message.type === 'done') this.#answers.emit(`done ${message.id}`, message.output)
    if (message.type === 'failed') this.#answers.emit(`failed ${message.id}`, message.failure)
    if (message.type === 'progress') this.#answers.emit(`progress ${message.id}`, message.progress)
  }
}

function crashed(repositoryId: string, cause: HoldfastError): HoldfastError {
  const message = `The process that works on repository ${repositoryId} has ended; the next attempt starts another. ${cause.message}`
  return new HoldfastError('REPO_UNAVAILABLE', message, { details: { repository_id: repositoryId }, cause })
}
