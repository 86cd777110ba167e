/**
 * Credentials at rest: rows that are sealed under a key file outside the catalog, so that a stolen catalog or its dump opens nothing.
 * `credential-envelope.ts` has the layout, `credentials-keys.ts` the files.
 */
import { ulid } from 'ulid'
import type { Catalog } from '../db/client.ts'
import {
  deleteCredentials,
  insertCredentials,
  listCredentials,
  readCredentials,
  resealCredentials,
} from '../db/queries/credentials.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import { cannotOpen, keysOf, seal, sealingKeyId, unsealWithAny } from './credential-envelope.ts'
import { checkCredentialsKeys } from './credentials-key-check.ts'
import { credentialsKeyPath, makeCredentialsKey, readCredentialsKeys, requireCredentialsKey } from './credentials-keys.ts'

/**
 * Seals and stores; returns the id to refer to them by. They are never changed, only replaced by others. `CREDENTIALS_KEY_INVALID` when the catalog
 * holds credentials of another key: nothing is sealed that others could not open.
 */
export async function sealCredentials(catalog: Catalog, keysFolder: string, credentials: JsonObject): Promise<string> {
  const rows = await listCredentials(catalog)
  await checkCredentialsKeys(keysFolder, rows)
  const id = `credentials-${ulid().toLowerCase()}`
  const path = credentialsKeyPath(keysFolder)
  let key = rows.length === 0 ? await makeCredentialsKey(path) : await requireCredentialsKey(path)
  await catalog.transaction().execute(async (transaction) => {
    await insertCredentials(transaction, { id, sealed: seal(key, id, credentials) })
    // A rotation that has put another key in place since then looks through the rows once more, and waits for this one: the key that is
    // current now seals it, or the rotation does.
    for (let now = await requireCredentialsKey(path); now.id !== key.id; now = await requireCredentialsKey(path)) {
      key = now
      await resealCredentials(transaction, { id, sealed: seal(key, id, credentials) })
    }
  })
  return id
}

/**
 * `null` for `null`. `INTERNAL` when they are gone or were changed: they must be given again. `CREDENTIALS_KEY_INVALID` when the key that sealed them is
 * not here.
 */
export async function unsealCredentials(catalog: Catalog, keysFolder: string, id: string | null): Promise<JsonObject | null> {
  if (id === null) return null
  const sealed = await readCredentials(catalog, id)
  if (!sealed) throw cannotOpen(id, 'they are not in the catalog')
  const keys = await readCredentialsKeys(keysFolder)
  if (keysOf(keys, sealed).length === 0) throw keyMissing(keysFolder, id, sealed)
  return unsealWithAny(keys, id, sealed)
}

/** Those that a source or repository uses stay. Idempotent. */
export async function discardCredentials(catalog: Catalog, id: string | null): Promise<void> {
  await deleteCredentials(catalog, id)
}

function keyMissing(keysFolder: string, id: string, sealed: Buffer): HoldfastError {
  const keyId = sealingKeyId(sealed)
  const named = keyId === undefined ? '' : ` (its id is ${keyId})`
  return new HoldfastError(
    'CREDENTIALS_KEY_INVALID',
    `Stored credentials cannot be opened: the key that sealed them${named} is not in ${keysFolder} of this host. Copy ${credentialsKeyPath(keysFolder)} from the host whose API sealed them, mode 600, or give them again.`,
    { details: { credentials_id: id } },
  )
}
