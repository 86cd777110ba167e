/**
 * The only place where Holdfast starts programs.
 *
 * Programs start through `setpriv --pdeathsig SIGKILL`, so that they die with us, even after `kill -9`. The death signal follows
 * the *thread* that forked: call this from a process's main thread, never from a worker thread.
 */
import type { ChildProcess } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { EventEmitter, once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { HoldfastError } from '../domain/errors.ts'

/** How long a program that was told to end may take before it is killed. */
const KILL_AFTER_MS = 5_000
const OUTPUT_MAX_BYTES = 64 * 1024 * 1024
const TAIL_MAX_CHARACTERS = 8_192
/** Exit code of `setpriv` and of shells when the program does not exist. */
const NOT_FOUND_EXIT = 127

export interface RunToolOptions {
  /** The program is killed after this long: `TOOL_TIMEOUT`. */
  timeoutMs: number
  /** On abort the program is told to end, then killed; the call rejects with `signal.reason` once it is gone. */
  signal?: AbortSignal | undefined
  /** Written to standard input, which is otherwise empty. */
  input?: string | Uint8Array | undefined
  /** What the program finds in a pipe, its file descriptor 3: for one that takes a password so. Not together with `input`. */
  secret?: string | undefined
  cwd?: string | undefined
  /** Added to our own environment; the place for secrets, which must never be arguments. */
  env?: Record<string, string> | undefined
  /** Exit codes besides 0 that are answers, not failures. */
  allowExitCodes?: readonly number[] | undefined
}

export interface ToolResult {
  stdout: string
  stderr: string
  exitCode: number
}

/**
 * Runs a program to its end.
 *
 * Throws `TOOL_MISSING` (not installed), `TOOL_TIMEOUT`, or `TOOL_FAILED` with the exit code and the last of what it said.
 * Messages never hold the arguments. Nothing runs on when this has settled.
 */
export async function runTool(program: string, args: readonly string[], options: RunToolOptions): Promise<ToolResult> {
  options.signal?.throwIfAborted()
  const running = startChild(program, () =>
    execa('setpriv', withDeathSignal(program, args), {
      reject: false,
      stripFinalNewline: false,
      timeout: options.timeoutMs,
      forceKillAfterDelay: KILL_AFTER_MS,
      maxBuffer: OUTPUT_MAX_BYTES,
      env: { ...plainMessages, ...options.env },
      ...inputsOf(options),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
    }),
  )
  const result = await running
  if (result.isCanceled) throw options.signal?.reason
  if (result.timedOut) {
    throw new HoldfastError('TOOL_TIMEOUT', `${program} did not end within ${options.timeoutMs} ms and was killed.`, {
      details: { program, timeoutMs: options.timeoutMs },
    })
  }
  const { stdout, stderr, exitCode } = result
  if (exitCode !== undefined && (exitCode === 0 || options.allowExitCodes?.includes(exitCode)))
    return { stdout, stderr, exitCode }
  if (exitCode === undefined && result.signal === undefined) throw neverStarted(program, result.code)
  // Some programs complain on standard output.
  throw exitError(program, { exitCode: exitCode ?? null, signal: result.signal ?? null }, stderr.trim() === '' ? stdout : stderr)
}

interface ToolInputs {
  input?: string | Uint8Array
  stdio: ['ignore' | 'pipe', 'pipe', 'pipe', ...(Uint8Array | HeldDescriptor)[]]
}

function inputsOf({ input, secret }: RunToolOptions): ToolInputs {
  if (secret !== undefined) return { stdio: ['ignore', 'pipe', 'pipe', new TextEncoder().encode(secret), ...heldByPrograms] }
  return {
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe', ...heldByPrograms],
    ...(input === undefined ? {} : { input }),
  }
}

/** Any number behind the standard streams; execa's types know single digits only. */
type HeldDescriptor = 3
const heldByPrograms: HeldDescriptor[] = []

/**
 * Every program that is started from now on holds this file descriptor, too. For a lock that must last as long as anything that this process
 * started: storage that hangs keeps a program alive after its parent, even after SIGKILL.
 */
export function letProgramsHold(fileDescriptor: number): void {
  if (isHeldDescriptor(fileDescriptor)) heldByPrograms.push(fileDescriptor)
}

function isHeldDescriptor(fileDescriptor: number): fileDescriptor is HeldDescriptor {
  return fileDescriptor > 2
}

export interface StartToolOptions {
  /** On abort the program is stopped, as by {@link RunningTool.stop}. */
  signal?: AbortSignal | undefined
  /** Called with what the program prints, as it comes; not line by line. */
  onOutput?: ((text: string) => void) | undefined
  /** `capture` (default) feeds `onOutput` and `stderrTail`; `inherit` shows the output on our own terminal. */
  stdio?: 'capture' | 'inherit' | undefined
  /** `true`: standard input and output carry bytes both ways, through {@link RunningTool.channel}; `onOutput` hears only standard error. */
  channel?: boolean | undefined
  /** `held`: stays open until {@link RunningTool.endInput}, or until we die, for programs that take its end as their own. Default `empty`. */
  stdin?: 'empty' | 'held' | undefined
  cwd?: string | undefined
  env?: Record<string, string> | undefined
  /** `false` only for programs that must outlive us. Default `true`. */
  dieWithParent?: boolean | undefined
  /** `true`: a Node program that talks to us through {@link RunningTool.messages}. */
  messages?: boolean | undefined
  /** `true`: not reached by the Ctrl-C of our terminal, so that we decide when and in which order programs end. Default `false`. */
  ownSession?: boolean | undefined
}

/** How a program ended: one of the two is set. */
export interface ToolExit {
  exitCode: number | null
  signal: string | null
}

export interface RunningTool {
  readonly program: string
  readonly pid: number
  /** Settles when the program is gone, however it ended. Never rejects. */
  readonly exited: Promise<ToolExit>
  /** Tells it to end (SIGTERM), waits, kills it after `graceMs`. Resolves when it is gone. Idempotent. */
  stop(graceMs: number): Promise<void>
  /** With `channel: true`: its standard input and output, as bytes. Errors of either are those of a program that ended; the reader of `exited` knows. */
  readonly channel: { input: Writable; output: Readable } | null
  /** With `messages: true`. */
  readonly messages: ToolMessages | null
  /** Closes its standard input (with `stdin: 'held'` or `channel`). Idempotent. */
  endInput(): void
  /** The last of what it wrote to standard error (with `capture`). */
  stderrTail(): string
}

/** Plain data both ways, in order; also Maps, Sets, dates and typed arrays. */
export interface ToolMessages {
  /** What is sent to a program that has ended is lost. */
  send(message: object): void
  /** Emits `message`. */
  readonly incoming: EventEmitter
}

/**
 * Starts a long-running program. `TOOL_MISSING` when it is not installed (a program missing behind `setpriv` exits with 127 instead),
 * `TOOL_FAILED` (retryable) when the system cannot start another one now.
 */
export function startTool(program: string, args: readonly string[], options: StartToolOptions = {}): RunningTool {
  options.signal?.throwIfAborted()
  const dieWithParent = options.dieWithParent ?? true
  const output = options.stdio === 'inherit' ? ('inherit' as const) : ('pipe' as const)
  const file = dieWithParent ? 'setpriv' : program
  const child = startChild(program, () =>
    execa(file, dieWithParent ? withDeathSignal(program, args) : args, {
      reject: false,
      buffer: false,
      cleanup: dieWithParent,
      detached: options.ownSession ?? false,
      stdio: [options.channel === true || options.stdin === 'held' ? 'pipe' : 'ignore', output, output, ...heldByPrograms],
      ...(options.messages === true ? { ipc: true, serialization: 'advanced' as const } : {}),
      env: { ...plainMessages, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    }),
  )
  if (child.pid === undefined) throw neverStarted(program, isInstalled(file) ? null : 'ENOENT')
  const channel = options.channel === true && child.stdin && child.stdout ? { input: child.stdin, output: child.stdout } : null
  const tail = followOutput(channel ? null : child.stdout, child.stderr, options.onOutput)
  const exited = exitOf(child)
  // A program that ends before its input does is no failure of ours.
  child.stdin?.on('error', () => undefined)
  channel?.output.on('error', () => undefined)
  const tool: RunningTool = {
    program,
    pid: child.pid,
    exited,
    channel,
    messages: options.messages === true ? messagesOf(child) : null,
    stderrTail: tail,
    endInput: () => void child.stdin?.end(),
    async stop(graceMs) {
      child.kill('SIGTERM')
      const killer = setTimeout(() => child.kill('SIGKILL'), graceMs)
      await exited
      clearTimeout(killer)
    },
  }
  stopOnAbort(tool, options.signal)
  return tool
}

function messagesOf(child: ChildProcess): ToolMessages {
  return {
    send: (message) => void (child.connected && child.send(message, () => undefined)),
    incoming: child,
  }
}

/** The failure to throw when a started program ended by itself although it was needed. */
export async function unexpectedExit(tool: RunningTool): Promise<HoldfastError> {
  return exitError(tool.program, await tool.exited, tool.stderrTail())
}

/**
 * Messages in English and without colours, because some of them are read by code. The sbin folders, because Debian leaves them out
 * of the PATH of ordinary users, and `mariadbd`, `sfdisk` and `mkfs.ext4` live there.
 */
const plainMessages = { LC_ALL: 'C.UTF-8', NO_COLOR: '1', PATH: `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin` }

function withDeathSignal(program: string, args: readonly string[]): string[] {
  return ['--pdeathsig', 'SIGKILL', '--', program, ...args]
}

/**
 * With too many open files Node makes a child without streams and tells why in an event. Execa trips over that and leaves nobody to listen,
 * and an error event that nobody hears would end our whole process. So we listen, from the moment that the child object exists.
 */
function startChild<T>(program: string, start: () => T): T {
  subscribe(CHILD_CREATED, hearErrors)
  try {
    return start()
  } catch (error) {
    if (error instanceof TypeError && !('code' in error)) throw neverStarted(program, 'EMFILE')
    throw error
  } finally {
    unsubscribe(CHILD_CREATED, hearErrors)
  }
}

/** Node publishes every child here before it starts it. */
const CHILD_CREATED = 'child_process'

function hearErrors(message: unknown): void {
  const child = typeof message === 'object' && message !== null && 'process' in message ? message.process : null
  if (child instanceof EventEmitter) child.on('error', () => undefined)
}

/** Whether a program can be found as the system does it. */
function isInstalled(file: string): boolean {
  if (file.includes('/')) return existsSync(file)
  return plainMessages.PATH.split(':').some((folder) => existsSync(join(folder, file)))
}

function stopOnAbort(tool: RunningTool, signal: AbortSignal | undefined): void {
  if (!signal) return
  const stop = (): void => void tool.stop(KILL_AFTER_MS)
  signal.addEventListener('abort', stop, { once: true })
  void tool.exited.then(() => signal.removeEventListener('abort', stop))
}

function followOutput(
  stdout: Readable | null | undefined,
  stderr: Readable | null | undefined,
  onOutput: StartToolOptions['onOutput'],
): () => string {
  let tail = ''
  const follow = (stream: Readable | null | undefined, keep: boolean): void => {
    stream?.setEncoding('utf8')
    stream?.on('data', (text: string) => {
      if (keep) tail = (tail + text).slice(-TAIL_MAX_CHARACTERS)
      onOutput?.(text)
    })
  }
  follow(stdout, false)
  follow(stderr, true)
  return () => tail
}

/** How long output may trail behind the end of its program. A grandchild may hold the pipe open for ever: that is not waited for. */
const OUTPUT_TRAILS_MS = 250

async function exitOf(child: EventEmitter): Promise<ToolExit> {
  const closed = once(child, 'close')
  const exit = await new Promise<ToolExit>((resolve) => {
    child.once('exit', (exitCode: number | null, signal: string | null) => resolve({ exitCode, signal }))
  })
  const patience = new AbortController()
  await Promise.race([closed, delay(OUTPUT_TRAILS_MS, undefined, { signal: patience.signal }).catch(() => undefined)])
  patience.abort()
  return exit
}

function exitError(program: string, exit: ToolExit, stderr: string): HoldfastError {
  const said = stderr.trim().slice(-1_000)
  if (exit.exitCode === NOT_FOUND_EXIT && said.includes('No such file or directory')) return missing(program)
  const how = exit.signal === null ? `exit code ${exit.exitCode}` : `signal ${exit.signal}`
  return new HoldfastError('TOOL_FAILED', `${program} ended with ${how}${said === '' ? '.' : `: ${said}`}`, {
    details: { program, exitCode: exit.exitCode, signal: exit.signal },
  })
}

/** The cause is left out on purpose: it would carry the arguments into logs. */
function neverStarted(program: string, code: string | null | undefined): HoldfastError {
  if (code === 'ENOENT') return missing(program)
  const why = code === 'EMFILE' ? 'too many files are open' : (code ?? 'the system refused')
  return new HoldfastError('TOOL_FAILED', `${program} could not be started: ${why}.`, { details: { program }, retryable: true })
}

function missing(program: string): HoldfastError {
  return new HoldfastError(
    'TOOL_MISSING',
    `The program "${program}" (or setpriv, which starts it) is not installed. Install it.`,
    {
      details: { program },
    },
  )
}
