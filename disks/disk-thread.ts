/**
 * Runs disk work in a worker thread, so that no event loop that heartbeats is ever blocked by hashing. This file is both ends:
 * `runInThread` for the main thread, `serveThread` for the entry file of the thread.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { parentPort, Worker, workerData } from 'node:worker_threads'
import { HoldfastError } from '../domain/errors.ts'
import { fromPortable, toPortable, type PortableError } from '../domain/portable-error.ts'

/** JavaScript objects only; buffers live outside this heap and are few. */
const HEAP_MAX_MIB = 64
/** What a thread may take after an abort, for its last flush and journal line. */
const GRACE_MS = 15_000
/** What a thread may take to end. It waits for calls to the file system under way, and storage that hangs answers none. */
const END_MS = 2_000

/** What goes into a thread, what comes out at the end, and what it tells meanwhile. All plain data. */
export interface ThreadWork {
  input: unknown
  result: unknown
  report: unknown
}

export interface ThreadOptions<Work extends ThreadWork> {
  signal?: AbortSignal | undefined
  onReport?: ((report: Work['report']) => void) | undefined
  /** Instead of 15 s. */
  graceMs?: number | undefined
}

/** The only word from the main thread. */
const STOP = 'stop'
type FromThread<Work extends ThreadWork> =
  | { type: 'report'; report: Work['report'] }
  | { type: 'done'; result: Work['result'] }
  | { type: 'failed'; failure: PortableError }

/**
 * Runs the thread `script` with `input` and resolves with its result. The thread's `HoldfastError` is thrown as one again; anything
 * else becomes `INTERNAL`. On abort the thread is asked to stop, given 15 s, then ended; the call rejects with `signal.reason`, at the
 * latest 19 s after the abort. Only a thread whose storage hangs is still there then; it ends with that call, and does nothing more.
 */
export async function runInThread<Work extends ThreadWork>(
  script: URL,
  input: Work['input'],
  options: ThreadOptions<Work> = {},
): Promise<Work['result']> {
  options.signal?.throwIfAborted()
  const worker = new Worker(script, { workerData: input, execArgv: [], resourceLimits: { maxOldGenerationSizeMb: HEAP_MAX_MIB } })
  const exited = new Promise((resolve) => worker.once('exit', resolve))
  const gaveUp = Promise.withResolvers<never>()
  let grace: NodeJS.Timeout | undefined
  const stop = (): void => {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- the rule is about windows; threads have no origin
    worker.postMessage(STOP)
    grace = setTimeout(() => gaveUp.reject(options.signal?.reason), options.graceMs ?? GRACE_MS)
  }
  options.signal?.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([resultOf(worker, options.onReport), gaveUp.promise])
  } catch (error) {
    options.signal?.throwIfAborted()
    throw error
  } finally {
    clearTimeout(grace)
    options.signal?.removeEventListener('abort', stop)
    await ended(worker, exited)
  }
}

/** A thread that has answered ends by itself. Only one that does not is terminated: V8 has crashed whole processes on the way out of it. */
async function ended(worker: Worker, exited: Promise<unknown>): Promise<void> {
  if (await withinEndTime(exited)) return
  await withinEndTime(worker.terminate())
}

async function withinEndTime(end: Promise<unknown>): Promise<boolean> {
  const enough = new AbortController()
  const late = delay(END_MS, false, { signal: enough.signal }).catch(() => false)
  const inTime = await Promise.race([end.then(() => true), late])
  enough.abort()
  return inTime
}

function resultOf<Work extends ThreadWork>(worker: Worker, onReport: ThreadOptions<Work>['onReport']): Promise<Work['result']> {
  return new Promise((resolve, reject) => {
    worker.on('message', (message: FromThread<Work>) => {
      if (message.type === 'report') onReport?.(message.report)
      else if (message.type === 'done') resolve(message.result)
      else reject(fromPortable(message.failure))
    })
    worker.once('error', (error) =>
      reject(new HoldfastError('INTERNAL', `A disk thread failed: ${String(error)}`, { cause: error })),
    )
    worker.once('exit', (code) => reject(new HoldfastError('INTERNAL', `A disk thread ended early with code ${code}.`)))
  })
}

export interface ThreadContext<Work extends ThreadWork> {
  /** Aborts when the main thread wants this one to stop. */
  signal: AbortSignal
  report: (report: Work['report']) => void
}

/** The whole body of a thread's entry file. */
export async function serveThread<Work extends ThreadWork>(
  work: (input: Work['input'], context: ThreadContext<Work>) => Promise<Work['result']>,
): Promise<void> {
  const port = parentPort
  if (port === null) throw new HoldfastError('INTERNAL', 'This file is the entry of a worker thread.')
  const send = (message: FromThread<Work>): void => port.postMessage(message)
  const stop = new AbortController()
  port.on('message', () => stop.abort(new HoldfastError('CANCELLED', 'The work was stopped.')))
  try {
    const input: Work['input'] = workerData
    send({
      type: 'done',
      result: await work(input, { signal: stop.signal, report: (report) => send({ type: 'report', report }) }),
    })
  } catch (error) {
    send({ type: 'failed', failure: toPortable(error, 'A disk thread') })
  } finally {
    port.close()
  }
}
