/** The first user. Someone has to be able to log in to a new installation, and a default password would be everyone's. */
import { randomInt } from 'node:crypto'
import { ulid } from 'ulid'
import type { Catalog } from '../db/client.ts'
import { isDuplicateKey } from '../db/driver-errors.ts'
import { hashPassword } from './passwords.ts'

export const FIRST_ADMIN_NAME = 'admin'

/** Nothing that looks like something else: people copy it from a terminal. */
const ALPHABET = 'abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789'
const PASSWORD_LENGTH = 20

/**
 * Makes the user `admin` if there is no user at all, and returns the generated password (116 bits) this once: only its hash is
 * kept, so the caller shows it to the person and forgets it. `null` when someone can log in already. Several processes may call it
 * at once: one of them gets the password. `CATALOG_UNAVAILABLE`.
 */
export async function ensureFirstAdmin(catalog: Catalog): Promise<{ username: string; password: string } | null> {
  const anyone = await catalog.selectFrom('users').select('id').limit(1).executeTakeFirst()
  if (anyone !== undefined) return null
  const password = generatePassword()
  const row = {
    id: `user-${ulid().toLowerCase()}`,
    username: FIRST_ADMIN_NAME,
    password_hash: await hashPassword(password),
    role: 'admin' as const,
  }
  try {
    await catalog.insertInto('users').values(row).execute()
  } catch (error) {
    // Another process was first and has shown its password.
    if (isDuplicateKey(error, 'unique_username')) return null
    throw error
  }
  return { username: FIRST_ADMIN_NAME, password }
}

function generatePassword(): string {
  return Array.from({ length: PASSWORD_LENGTH }, () => ALPHABET[randomInt(ALPHABET.length)]).join('')
}
