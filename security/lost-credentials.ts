/** What to do when a key is gone for good: the credentials that it sealed are forgotten, and must be given again. */
import type { Catalog } from '../db/client.ts'
import { forgetCredentials, listCredentials, listCredentialsUsers, lockCredentials } from '../db/queries/credentials.ts'
import type { CredentialsUser } from '../db/queries/credentials.ts'
import { opens } from './credentials-key-check.ts'
import type { SealedRow } from './credentials-key-check.ts'
import { readCredentialsKeys } from './credentials-keys.ts'

export interface LostCredentials {
  ids: string[]
  /** They must be given credentials again. */
  users: CredentialsUser[]
}

/** Changes nothing. `CREDENTIALS_KEY_INVALID` when a key that is here is damaged or open to others. */
export async function findLostCredentials(catalog: Catalog, keysFolder: string): Promise<LostCredentials> {
  return lostOf(catalog, await closedRows(keysFolder, await listCredentials(catalog)))
}

/** Sources and repositories stay, without credentials. Errors as {@link findLostCredentials}; idempotent. */
export async function forgetLostCredentials(catalog: Catalog, keysFolder: string): Promise<LostCredentials> {
  return catalog.transaction().execute(async (transaction) => {
    const lost = await lostOf(transaction, await closedRows(keysFolder, await lockCredentials(transaction)))
    await forgetCredentials(transaction, lost.ids)
    return lost
  })
}

async function closedRows(keysFolder: string, rows: readonly SealedRow[]): Promise<string[]> {
  const keys = await readCredentialsKeys(keysFolder)
  return rows.filter((row) => !opens(keys, row)).map((row) => row.id)
}

async function lostOf(catalog: Catalog, ids: string[]): Promise<LostCredentials> {
  return { ids, users: (await listCredentialsUsers(catalog)).filter((user) => ids.includes(user.credentialsId)) }
}
