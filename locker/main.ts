/**
 * The locker: makes published backups immutable, and mutable again only after the end that it recorded. A program of its own, so that the
 * mover can run without the right to take a lock off (see docs/operations.md). It is asked on standard input and answers with one line.
 * It believes nothing that it is told: what it touches it finds by itself, below a repository's marker.
 */
import { HoldfastError } from '../domain/errors.ts'
import { lockerVerbs } from '../domain/lock-protocol.ts'
import type { LockerLine, LockerVerb } from '../domain/lock-protocol.ts'
import { attest } from './attest.ts'
import { lock } from './lock.ts'
import { probe } from './probe.ts'
import { objectIn } from './repository.ts'
import { readBackupsRequest, readProbeRequest, readUnlockRequest } from './request.ts'
import { unlock } from './unlock.ts'

const answers = {
  lock: (input: string) => lock(readBackupsRequest(input)),
  attest: (input: string) => attest(readBackupsRequest(input)),
  unlock: (input: string) => unlock(readUnlockRequest(input)),
  probe: (input: string) => probe(readProbeRequest(input)),
} satisfies Record<LockerVerb, unknown>

process.stdout.write(`${JSON.stringify(await run())}\n`)

async function run(): Promise<LockerLine> {
  try {
    const input = await standardInput()
    return { ok: true, answer: await answers[verbOf(input)](input) }
  } catch (error) {
    const known = error instanceof HoldfastError ? error : internal(error)
    const { code, message, details, retryable } = known
    return { ok: false, code, message, details, retryable }
  }
}

/** As an argument, or, for a service that is asked through a socket, in the request. */
function verbOf(input: string): LockerVerb {
  const asked = process.argv[2] ?? objectIn(input)['verb']
  const verb = lockerVerbs.find((candidate) => candidate === asked)
  if (verb) return verb
  throw new HoldfastError('INVALID_REQUEST', `The locker knows ${lockerVerbs.join(', ')}; it was asked for something else.`)
}

async function standardInput(): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks).toString('utf8')
}

/** A file operation or a program that failed. Trying again may help, and does no harm. */
function internal(error: unknown): HoldfastError {
  return new HoldfastError('LOCK_FAILED', error instanceof Error ? error.message : String(error), { cause: error })
}
