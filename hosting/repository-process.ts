/** One process that works on one repository, from its start to its end. What it is asked is answered, by the process or by its end. */
import { HoldfastError } from '../domain/errors.ts'
import { fromPortable } from '../domain/portable-error.ts'
import { startTool, unexpectedExit, type RunningTool } from '../tools/run-tool.ts'
import type { FromProcess, ToProcess } from './process/messages.ts'
import type { Input, Output, Verb, Watching } from './verbs.ts'

const PROGRAM = new URL('./process/main.ts', import.meta.url).pathname
/** Calls to storage that hangs take one thread each, and others must still get through. */
const THREADS = '32'

interface Waiting {
  resolve: (output: Output<Verb>) => void
  reject: (error: unknown) => void
  onProgress: (progress: unknown) => void
}

export class RepositoryProcess {
  readonly #tool: RunningTool
  readonly #waiting = new Map<number, Waiting>()
  /** Settles when the process is gone. That can be long after it was killed. */
  readonly ended: Promise<void>
  #lastId = 0
  #over: HoldfastError | null = null

  constructor(repositoryId: string, root: string) {
    this.#tool = startTool(process.execPath, [PROGRAM, repositoryId, root], {
      messages: true,
      // Ctrl-C is for the mover, which ends its transfers in order.
      ownSession: true,
      env: { UV_THREADPOOL_SIZE: THREADS },
    })
    this.#tool.messages?.onMessage((message) => this.#hear(message))
    this.ended = this.#tool.exited.then(async () => this.#end(crashed(repositoryId, await unexpectedExit(this.#tool))))
  }

  get pid(): number {
    return this.#tool.pid
  }

  /** Rejects with the verb's own error, or `REPO_UNAVAILABLE` when the process ends first. An abort is passed on; whether it helps is for the caller to see. */
  call<V extends Verb>(verb: V, input: Input<V>, { signal, onProgress }: Watching<V> = {}): Promise<Output<V>> {
    if (this.#over) return Promise.reject(this.#over)
    const id = ++this.#lastId
    const abort = (): void => this.#tell({ type: 'abort', id })
    signal?.addEventListener('abort', abort, { once: true })
    const answer = new Promise<Output<V>>((resolve, reject) => {
      // What comes back under this number is the answer to this verb.
      this.#waiting.set(id, { resolve, reject, onProgress: onProgress ?? nobodyListens } as Waiting)
    })
    this.#tell({ type: 'call', id, verb, input })
    if (signal?.aborted) abort()
    return answer.finally(() => signal?.removeEventListener('abort', abort))
  }

  /** Everything that waits gets `reason` at once. Returns at once, too: {@link ended} tells when it is gone. Idempotent. */
  kill(reason: HoldfastError): void {
    this.#end(reason)
    void this.#tool.stop(0)
  }

  #tell(message: ToProcess): void {
    this.#tool.messages?.send(message)
  }

  #hear(received: unknown): void {
    const message = received as FromProcess
    if (message.type === 'ready') return
    const waiting = this.#waiting.get(message.id)
    if (message.type === 'progress') waiting?.onProgress(message.progress)
    else {
      this.#waiting.delete(message.id)
      if (message.type === 'done') waiting?.resolve(message.output)
      else waiting?.reject(fromPortable(message.failure))
    }
  }

  #end(reason: HoldfastError): void {
    this.#over ??= reason
    for (const { reject } of this.#waiting.values()) reject(this.#over)
    this.#waiting.clear()
  }
}

function nobodyListens(): void {
  // Progress is told whether or not somebody wants to know.
}

function crashed(repositoryId: string, cause: HoldfastError): HoldfastError {
  const message = `The process that works on repository ${repositoryId} has ended; the next attempt starts another. ${cause.message}`
  return new HoldfastError('REPO_UNAVAILABLE', message, { details: { repository_id: repositoryId }, cause })
}
