/** Sealed credentials as bytes. What is in them is known to `security/sealed-credentials.ts` alone. */
import type { Catalog } from '../client.ts'

export async function insertCredentials(catalog: Catalog, row: { id: string; sealed: Buffer }): Promise<void> {
  await catalog.insertInto('sealed_credentials').values(row).execute()
}

export async function readCredentials(catalog: Catalog, id: string): Promise<Buffer | undefined> {
  const row = await catalog.selectFrom('sealed_credentials').select('sealed').where('id', '=', id).executeTakeFirst()
  return row?.sealed
}

/** Those that a source or a repository refers to stay. Idempotent; nothing for `null`. */
export async function deleteCredentials(catalog: Catalog, id: string | null): Promise<void> {
  if (id === null) return
  await unreferenced(catalog).where('id', '=', id).execute()
}

/** Removes those that nothing refers to and that were stored before `time`; returns how many. */
export async function deleteUnreferencedCredentials(catalog: Catalog, time: Date): Promise<number> {
  const { numDeletedRows } = await unreferenced(catalog).where('created_at', '<', time).executeTakeFirstOrThrow()
  return Number(numDeletedRows)
}

/** A third table that refers to credentials belongs here too. */
function unreferenced(catalog: Catalog) {
  const bySources = catalog.selectFrom('sources').select('credentials_id').where('credentials_id', 'is not', null)
  const byRepositories = catalog
    .selectFrom('backup_repositories')
    .select('credentials_id')
    .where('credentials_id', 'is not', null)
  return catalog
    .deleteFrom('sealed_credentials')
    .where('id', 'not in', bySources.$castTo<{ credentials_id: string }>())
    .where('id', 'not in', byRepositories.$castTo<{ credentials_id: string }>())
}
