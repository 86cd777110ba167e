/** Whether the keys that are here are those that sealed the catalog's credentials. Asked before anything is sealed, and when a process starts. */
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import { keysOf, sealingKeyId, unsealWithAny } from './credential-envelope.ts'
import { CREDENTIALS_KEY_FILE, credentialsKeyPath, FORGET_COMMAND, readCredentialsKeys } from './credentials-keys.ts'
import type { CredentialsKey } from './credentials-keys.ts'

export interface SealedRow {
  id: string
  sealed: Buffer
}

export interface CheckedKeys {
  keys: CredentialsKey[]
  /** Rows whose key is here, and that it does not open: changed since they were sealed. They must be given again. */
  damaged: string[]
}

/**
 * Makes nothing. `CREDENTIALS_KEY_INVALID`, for people: the key file is missing although it is needed, damaged, readable by others, or another
 * than the one that sealed some of `rows`.
 */
export async function checkCredentialsKeys(keysFolder: string, rows: readonly SealedRow[]): Promise<CheckedKeys> {
  const keys = await readCredentialsKeys(keysFolder)
  const path = credentialsKeyPath(keysFolder)
  if (rows.length > 0 && !keys.some((key) => key.path === path)) throw missing(path, rows.length)
  const closed = rows.filter((row) => !opens(keys, row))
  const orphaned = closed.filter(({ sealed }) => keysOf(keys, sealed).length === 0)
  if (orphaned.length > 0) throw wrong(path, orphaned, rows.length)
  // Version 1 does not tell a wrong key from damage. When nothing at all opens, it is the key.
  if (closed.length > 0 && closed.length === rows.length && closed.every(({ sealed }) => sealingKeyId(sealed) === undefined))
    throw wrong(path, closed, rows.length)
  return { keys, damaged: closed.map((row) => row.id) }
}

export function opens(keys: readonly CredentialsKey[], { id, sealed }: SealedRow): boolean {
  try {
    unsealWithAny(keys, id, sealed)
    return true
  } catch (error) {
    if (error instanceof HoldfastError) return false
    throw error
  }
}

const advice =
  'Put the right file back, from where you keep a copy or from the host whose API sealed them (every host that opens credentials needs the same file, mode 600), and start again. ' +
  `Is it lost: "${FORGET_COMMAND}" forgets what nothing opens any more, and says what must be given again.`

function missing(path: string, count: number): HoldfastError {
  return refused(`The key file ${path} is missing. ${told(count, 'are')} sealed under it; no new one was made. ${advice}`, {
    path,
    credentials: count,
  })
}

function wrong(path: string, rows: readonly SealedRow[], total: number): HoldfastError {
  const ids = [...new Set(rows.map(({ sealed }) => sealingKeyId(sealed)).filter((id) => id !== undefined))]
  const named = ids.length === 0 ? '' : ` (its id is ${ids.join(', ')})`
  return refused(
    `The key file ${path} is not the one that sealed ${rows.length} of ${total} stored credentials: they were sealed under another key${named}. ${advice}`,
    { path, credentials: rows.length, key_ids: ids },
  )
}

function told(count: number, verb: string): string {
  return count === 1 ? '1 set of stored credentials is' : `${count} sets of stored credentials ${verb}`
}

function refused(message: string, details: JsonObject): HoldfastError {
  return new HoldfastError('CREDENTIALS_KEY_INVALID', message, { details: { ...details, file: CREDENTIALS_KEY_FILE } })
}
