/**
 * The locker, started as the program that it is: by default our own `locker/main.ts`, or whatever runs it with the rights that the mover has
 * given up. Each question is one process, which may be stuck on a dead file system without holding anybody.
 */
import { resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError, isErrorCode } from '../domain/errors.ts'
import type { ErrorCode, JsonObject } from '../domain/errors.ts'
import type { LockerCalls, LockerVerb } from '../domain/lock-protocol.ts'
import { runTool } from './run-tool.ts'

const DEADLINE_MS = 60_000
/** Between the end of a question's time and giving up a process that cannot be killed. */
const KILLED_WITHIN_MS = 6_000

/** `LOCK_FAILED` (retryable) when the locker does not answer or cannot be started; otherwise what it refuses with. */
export interface Locker {
  lock: Ask<'lock'>
  unlock: Ask<'unlock'>
  attest: Ask<'attest'>
  probe: Ask<'probe'>
}

type Ask<Verb extends LockerVerb> = (
  request: LockerCalls[Verb]['request'],
  options?: { deadlineMs?: number },
) => Promise<LockerCalls[Verb]['answer']>

/** `command`: the program and its first arguments; the verb follows. */
export function createLocker(command: readonly string[] = ownLocker()): Locker {
  return {
    lock: (request, options) => ask<'lock'>(command, 'lock', request, options),
    unlock: (request, options) => ask<'unlock'>(command, 'unlock', request, options),
    attest: (request, options) => ask<'attest'>(command, 'attest', request, options),
    probe: (request, options) => ask<'probe'>(command, 'probe', request, options),
  }
}

function ownLocker(): string[] {
  return [process.execPath, resolve(import.meta.dirname, '../locker/main.ts')]
}

async function ask<Verb extends LockerVerb>(
  command: readonly string[],
  verb: Verb,
  request: LockerCalls[Verb]['request'],
  { deadlineMs = DEADLINE_MS }: { deadlineMs?: number } = {},
): Promise<LockerCalls[Verb]['answer']> {
  const [program = '', ...first] = command
  const patience = new AbortController()
  const running = runTool(program, [...first, verb], { timeoutMs: deadlineMs, input: JSON.stringify({ verb, ...request }) })
  const gaveUp = delay(deadlineMs + KILLED_WITHIN_MS, null, { signal: patience.signal }).catch(() => null)
  try {
    const result = await Promise.race([running, gaveUp])
    if (result === null) throw new HoldfastError('LOCK_FAILED', `The locker does not answer and cannot be killed (${verb}).`)
    // The two programs are of one version; who puts another one in its place answers for its answers.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    return answerIn(result.stdout) as LockerCalls[Verb]['answer']
  } catch (error) {
    if (error instanceof HoldfastError && ['TOOL_FAILED', 'TOOL_TIMEOUT'].includes(error.code)) {
      throw new HoldfastError('LOCK_FAILED', `The locker failed (${verb}): ${error.message}`, { cause: error })
    }
    throw error
  } finally {
    patience.abort()
    // Given up: it may still fail, and nobody listens.
    running.catch(() => undefined)
  }
}

/** Its last line: `sudo` and Node may have said something before. */
function answerIn(stdout: string): unknown {
  const line = stdout.trimEnd().split('\n').at(-1) ?? ''
  const said = lineIn(line)
  if (said === null)
    throw new HoldfastError('LOCK_FAILED', `The locker said nothing that can be understood: ${line.slice(0, 200)}`)
  if ('answer' in said) return said.answer
  throw new HoldfastError(said.code, said.message, { details: said.details, retryable: said.retryable })
}

type Said = { answer: unknown } | { code: ErrorCode; message: string; details: JsonObject; retryable: boolean }

function lineIn(text: string): Said | null {
  let line: unknown
  try {
    line = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof line !== 'object' || line === null || !('ok' in line)) return null
  if (line.ok === true && 'answer' in line) return { answer: line.answer }
  if (!('code' in line) || !isErrorCode(line.code)) return null
  const message = 'message' in line && typeof line.message === 'string' ? line.message : ''
  const details = 'details' in line && typeof line.details === 'object' ? { ...line.details } : {}
  return { code: line.code, message, details, retryable: 'retryable' in line && line.retryable === true }
}
