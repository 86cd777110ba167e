/**
 * Credentials as sealed bytes: AES-256-GCM. Layout: version (1 byte, 2), id of the key (8), nonce (12), tag (16), ciphertext of the JSON object.
 * Version, key id and the row's id are authenticated with the content: a row cannot be put in another's place. Version 1 had no key id, and
 * authenticated the row's id alone; it is still opened.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import type { CredentialsKey } from './credentials-keys.ts'

const VERSION = 2
const KEY_ID_BYTES = 8
const NONCE_BYTES = 12
const TAG_BYTES = 16
const HEAD_BYTES: Record<number, number> = { 1: 1, 2: 1 + KEY_ID_BYTES }

type SealingKey = Pick<CredentialsKey, 'id' | 'bytes'>

export function seal(key: SealingKey, rowId: string, credentials: JsonObject): Buffer {
  const nonce = randomBytes(NONCE_BYTES)
  const head = Buffer.concat([Buffer.from([VERSION]), Buffer.from(key.id, 'hex')])
  const cipher = createCipheriv('aes-256-gcm', key.bytes, nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(Buffer.concat([head, Buffer.from(rowId)]))
  const ciphertext = Buffer.concat([cipher.update(JSON.stringify(credentials), 'utf8'), cipher.final()])
  return Buffer.concat([head, nonce, cipher.getAuthTag(), ciphertext])
}

/** The key that sealed it, as it says itself; `undefined` for version 1, which does not say. */
export function sealingKeyId(sealed: Buffer): string | undefined {
  return sealed[0] === VERSION ? sealed.subarray(1, 1 + KEY_ID_BYTES).toString('hex') : undefined
}

/** Those of `keys` that may have sealed it: one at most, but for version 1. */
export function keysOf<Key extends SealingKey>(keys: readonly Key[], sealed: Buffer): Key[] {
  const id = sealingKeyId(sealed)
  return keys.filter((key) => id === undefined || key.id === id)
}

/** `INTERNAL` when it was sealed under another key, belongs to another row or was changed. */
export function unseal(key: SealingKey, rowId: string, sealed: Buffer): JsonObject {
  const headBytes = HEAD_BYTES[sealed[0] ?? 0]
  if (headBytes === undefined) throw cannotOpen(rowId, `their format ${sealed[0]} is not known`)
  const nonceEnd = headBytes + NONCE_BYTES
  const head = sealed[0] === VERSION ? sealed.subarray(0, headBytes) : Buffer.alloc(0)
  try {
    const decipher = createDecipheriv('aes-256-gcm', key.bytes, sealed.subarray(headBytes, nonceEnd), {
      authTagLength: TAG_BYTES,
    })
    decipher.setAAD(Buffer.concat([head, Buffer.from(rowId)])).setAuthTag(sealed.subarray(nonceEnd, nonceEnd + TAG_BYTES))
    const text = Buffer.concat([decipher.update(sealed.subarray(nonceEnd + TAG_BYTES)), decipher.final()])
    return JSON.parse(text.toString('utf8'))
  } catch (cause) {
    throw cannotOpen(rowId, 'they were sealed under another key, or changed since', cause)
  }
}

/** With the first of `keys` that opens it. `INTERNAL` when none does. */
export function unsealWithAny(keys: readonly SealingKey[], rowId: string, sealed: Buffer): JsonObject {
  let failure = cannotOpen(rowId, 'the key that sealed them is not here')
  for (const key of keysOf(keys, sealed)) {
    try {
      return unseal(key, rowId, sealed)
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      // Version 1 does not name its key: the next one may be it.
      failure = error
    }
  }
  throw failure
}

export function cannotOpen(rowId: string, reason: string, cause?: unknown): HoldfastError {
  return new HoldfastError('INTERNAL', `Stored credentials cannot be opened: ${reason}. Give them again.`, {
    cause,
    details: { credentials_id: rowId },
  })
}
