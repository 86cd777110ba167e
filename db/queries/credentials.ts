/** Sealed credentials as bytes. What is in them is known to `security/sealed-credentials.ts` alone. */
import type { Catalog } from '../client.ts'

export async function insertCredentials(catalog: Catalog, row: { id: string; sealed: Buffer }): Promise<void> {
  await catalog.insertInto('sealed_credentials').values(row).execute()
}

export async function readCredentials(catalog: Catalog, id: string): Promise<Buffer | undefined> {
  const row = await catalog.selectFrom('sealed_credentials').select('sealed').where('id', '=', id).executeTakeFirst()
  return row?.sealed
}

export async function deleteCredentials(catalog: Catalog, id: string): Promise<void> {
  await catalog.deleteFrom('sealed_credentials').where('id', '=', id).execute()
}
