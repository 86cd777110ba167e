/**
 * Requests from the API to a mover's file service, signed with a key that both hold: HMAC-SHA-256 over the method, the port, the target and when the
 * signature ends. Carried as `Authorization: Holdfast <expires, milliseconds since 1970>.<hex>`.
 *
 * Where a mover that was killed has listened, anybody on its host may listen until the next one has told its place. So what was meant for one port is good for no
 * other, and an answer carries a signature of its own: who has no key can neither use a request nor answer it.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { HoldfastError } from '../domain/errors.ts'
import { loadKeyFile } from './key-file.ts'

const KEY_FILE = 'mover-files.key'
/** Long enough for two clocks that differ a little, too short to be of use to who finds one. */
const VALID_MS = 30_000

/** Of an answer. */
export const ANSWER_SIGNATURE = 'holdfast-signature'

export interface SignedRequest {
  method: string
  /** Where it is heard. */
  port: number
  /** Path and query, exactly as sent. */
  target: string
}

/** The key of this host's API and mover, made by whoever comes first. A mover on another host needs a copy of the file. */
export function loadFilesKey(keysFolder: string): Promise<Uint8Array> {
  return loadKeyFile(keysFolder, KEY_FILE, 'the API and the movers must be started again')
}

/** The value of the `Authorization` header. @param now milliseconds since 1970 */
export function signRequest(key: Uint8Array, request: SignedRequest, now: number): string {
  const expires = now + VALID_MS
  return `Holdfast ${expires}.${signature(key, request, expires).toString('hex')}`
}

/** `UNAUTHENTICATED` when the header is missing, made with another key or for another request, has ended, or ends later than one of ours could. */
export function checkSignature(key: Uint8Array, request: SignedRequest, header: string | undefined, now: number): void {
  const parts = /^Holdfast (\d{1,15})\.([0-9a-f]{64})$/.exec(header ?? '')
  const expires = Number(parts?.[1])
  const known = parts?.[2] !== undefined && timingSafeEqual(signature(key, request, expires), Buffer.from(parts[2], 'hex'))
  if (!known) throw refused('its signature is missing or wrong: the API and the mover must have the same key file')
  if (expires < now || expires > now + 2 * VALID_MS)
    throw refused('its signature has ended: the clocks of the two hosts must agree')
}

function signature(key: Uint8Array, { method, port, target }: SignedRequest, expires: number): Buffer {
  return createHmac('sha256', key).update(`${expires}\n${method}\n${port}\n${target}`).digest()
}

/** The value of {@link ANSWER_SIGNATURE} in the answer to the request that carried this `Authorization`. */
export function signAnswer(key: Uint8Array, authorization: string): string {
  return createHmac('sha256', key).update(`answer\n${authorization}`).digest('hex')
}

/** Whether an answer comes from one who has the key. */
export function isSignedAnswer(key: Uint8Array, authorization: string, given: string | undefined): boolean {
  const expected = Buffer.from(signAnswer(key, authorization))
  const found = Buffer.from(given ?? '')
  return found.length === expected.length && timingSafeEqual(found, expected)
}

function refused(why: string): HoldfastError {
  return new HoldfastError('UNAUTHENTICATED', `The mover's file service refused a request: ${why}.`)
}
