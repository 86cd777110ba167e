/**
 * Credentials at rest: AES-256-GCM under a key file outside the catalog, so that a stolen catalog or its dump opens nothing. The id is
 * authenticated with the content: a row cannot be put in another's place. Layout of `sealed`: version (1 byte, 1), nonce (12), tag (16),
 * ciphertext of the JSON object.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { ulid } from 'ulid'
import type { Catalog } from '../db/client.ts'
import { deleteCredentials, insertCredentials, readCredentials } from '../db/queries/credentials.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import { loadKeyFile } from './key-file.ts'

export const CREDENTIALS_KEY_FILE = 'credentials.key'
const VERSION = 1
const NONCE_BYTES = 12
const TAG_BYTES = 16

/** Seals and stores; returns the id to refer to them by. They are never changed, only replaced by others. */
export async function sealCredentials(catalog: Catalog, keysFolder: string, credentials: JsonObject): Promise<string> {
  const id = `credentials-${ulid().toLowerCase()}`
  await insertCredentials(catalog, { id, sealed: seal(await loadKey(keysFolder), id, credentials) })
  return id
}

/** `null` for `null`. `INTERNAL` when they are gone, were changed, or were sealed under another key: they must be given again. */
export async function unsealCredentials(catalog: Catalog, keysFolder: string, id: string | null): Promise<JsonObject | null> {
  if (id === null) return null
  const sealed = await readCredentials(catalog, id)
  if (!sealed) throw cannotOpen(id, 'they are not in the catalog')
  return unseal(await loadKey(keysFolder), id, sealed)
}

/** Those that a source or a repository uses stay. Idempotent. */
export async function discardCredentials(catalog: Catalog, id: string | null): Promise<void> {
  await deleteCredentials(catalog, id)
}

function loadKey(keysFolder: string): Promise<Uint8Array> {
  return loadKeyFile(keysFolder, CREDENTIALS_KEY_FILE, 'credentials that it sealed must be given again')
}

export function seal(key: Uint8Array, id: string, credentials: JsonObject): Buffer {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES }).setAAD(Buffer.from(id))
  const ciphertext = Buffer.concat([cipher.update(JSON.stringify(credentials), 'utf8'), cipher.final()])
  return Buffer.concat([Buffer.from([VERSION]), nonce, cipher.getAuthTag(), ciphertext])
}

export function unseal(key: Uint8Array, id: string, sealed: Buffer): JsonObject {
  if (sealed[0] !== VERSION) throw cannotOpen(id, `their format ${sealed[0]} is not known`)
  const nonce = sealed.subarray(1, 1 + NONCE_BYTES)
  const tag = sealed.subarray(1 + NONCE_BYTES, 1 + NONCE_BYTES + TAG_BYTES)
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(Buffer.from(id)).setAuthTag(tag)
    const text = Buffer.concat([decipher.update(sealed.subarray(1 + NONCE_BYTES + TAG_BYTES)), decipher.final()])
    return JSON.parse(text.toString('utf8'))
  } catch (cause) {
    throw cannotOpen(id, 'they were sealed under another key, or changed since', cause)
  }
}

function cannotOpen(id: string, reason: string, cause?: unknown): HoldfastError {
  return new HoldfastError('INTERNAL', `Stored credentials cannot be opened: ${reason}. Give them again.`, {
    cause,
    details: { credentials_id: id },
  })
}
