/** One of Holdfast's own processes: `node <script>`, ready when it says so on its standard output. */
import { HoldfastError } from '../domain/errors.ts'
import { startTool } from '../tools/run-tool.ts'
import type { ToolExit } from '../tools/run-tool.ts'
import type { ReadyProcess } from './supervised-service.ts'

export interface NodeProcessOptions {
  /** For messages: "control worker". */
  name: string
  /** Absolute path of the TypeScript entry point. */
  script: string
  /** Added to our own environment. Secrets go here: every user of the machine sees arguments. */
  env: Record<string, string>
  signal: AbortSignal
  onOutput: (text: string) => void
  readyTimeoutMs?: number
  /** Named in messages, so that a person knows where to read on. */
  logPath: string
}

const READY_TIMEOUT_MS = 120_000
const STOP_GRACE_MS = 5_000
const TAIL_MAX_CHARACTERS = 2_000

/**
 * Starts the process and resolves when it has printed the line `{"msg":"ready", …}`. `TOOL_FAILED` with its last words when it ends
 * before, `TOOL_TIMEOUT` when it does not get ready; then it has been stopped.
 */
export async function startNodeProcess(options: NodeProcessOptions): Promise<ReadyProcess> {
  const { name, script, env, signal, onOutput, logPath, readyTimeoutMs = READY_TIMEOUT_MS } = options
  signal.throwIfAborted()
  const ready = Promise.withResolvers<'ready'>()
  const lines = new LineBuffer((line) => {
    if (isReadyLine(line)) ready.resolve('ready')
  })
  let tail = ''
  const child = startTool(process.execPath, [script], {
    env,
    ownSession: true,
    onOutput: (text) => {
      tail = (tail + text).slice(-TAIL_MAX_CHARACTERS)
      lines.add(text)
      onOutput(text)
    },
  })
  const patience = AbortSignal.any([signal, AbortSignal.timeout(readyTimeoutMs)])
  const outcome = await Promise.race([ready.promise, child.exited, aborted(patience)])
  if (outcome === 'ready') return child
  await child.stop(STOP_GRACE_MS)
  signal.throwIfAborted()
  const lastWords = tail.trim() === '' ? 'It said nothing.' : `Its last words:\n${tail.trim()}`
  const [code, what] =
    outcome === 'aborted'
      ? (['TOOL_TIMEOUT', `was not ready after ${readyTimeoutMs / 1000} s`] as const)
      : (['TOOL_FAILED', `ended (${howItEnded(outcome)}) before it was ready`] as const)
  throw new HoldfastError(code, `The ${name} ${what}. ${lastWords}\nIts log: ${logPath}`, { details: { process: name } })
}

/** For people: "exit code 1", "signal SIGKILL". */
export function howItEnded({ exitCode, signal }: ToolExit): string {
  return signal === null ? `exit code ${exitCode}` : `signal ${signal}`
}

function aborted(signal: AbortSignal): Promise<'aborted'> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve('aborted')
    else signal.addEventListener('abort', () => resolve('aborted'), { once: true })
  })
}

function isReadyLine(line: string): boolean {
  if (!line.includes('"ready"')) return false
  try {
    const entry: unknown = JSON.parse(line)
    return typeof entry === 'object' && entry !== null && 'msg' in entry && entry.msg === 'ready'
  } catch {
    return false
  }
}

/** Output comes in pieces that know nothing of lines. */
class LineBuffer {
  #rest = ''
  readonly #onLine: (line: string) => void

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine
  }

  add(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) this.#onLine(line)
  }
}
