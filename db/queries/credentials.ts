/** Sealed credentials as bytes. What is in them is known to `security/` alone. */
import type { Transaction } from 'kysely'
import type { Catalog } from '../client.ts'
import type { Database } from '../schema.ts'

export interface SealedCredentials {
  id: string
  sealed: Buffer
}

/** What reaches something with the help of credentials. */
export interface CredentialsUser {
  credentialsId: string
  kind: 'source' | 'repository'
  id: string
  name: string
  hostId: string
}

export async function insertCredentials(catalog: Catalog, row: SealedCredentials): Promise<void> {
  await catalog.insertInto('sealed_credentials').values(row).execute()
}

export async function readCredentials(catalog: Catalog, id: string): Promise<Buffer | undefined> {
  const row = await catalog.selectFrom('sealed_credentials').select('sealed').where('id', '=', id).executeTakeFirst()
  return row?.sealed
}

/** All, in the order of their ids. They are few: one for each source or repository that needs any. */
export function listCredentials(catalog: Catalog): Promise<SealedCredentials[]> {
  return catalog.selectFrom('sealed_credentials').select(['id', 'sealed']).orderBy('id').execute()
}

/** All, and nobody adds, changes or removes one before the transaction ends; waits for those who are doing so. */
export function lockCredentials(transaction: Transaction<Database>): Promise<SealedCredentials[]> {
  return transaction.selectFrom('sealed_credentials').select(['id', 'sealed']).orderBy('id').forUpdate().execute()
}

/** The same credentials, sealed anew. */
export async function resealCredentials(catalog: Catalog, { id, sealed }: SealedCredentials): Promise<void> {
  await catalog.updateTable('sealed_credentials').set({ sealed }).where('id', '=', id).execute()
}

export async function listCredentialsUsers(catalog: Catalog): Promise<CredentialsUser[]> {
  const columns = ['id', 'name', 'host_id', 'credentials_id'] as const
  const sources = await catalog.selectFrom('sources').select(columns).orderBy('name').execute()
  const repositories = await catalog.selectFrom('backup_repositories').select(columns).orderBy('name').execute()
  const told = (kind: CredentialsUser['kind'], rows: typeof sources): CredentialsUser[] =>
    rows.flatMap(({ id, name, host_id: hostId, credentials_id: credentialsId }) =>
      credentialsId === null ? [] : [{ kind, id, name, hostId, credentialsId }],
    )
  return [...told('source', sources), ...told('repository', repositories)]
}

/** Those that its mover opens. */
export async function listCredentialsOfHost(catalog: Catalog, hostId: string): Promise<SealedCredentials[]> {
  const users = (await listCredentialsUsers(catalog)).filter((user) => user.hostId === hostId)
  const used = new Set(users.map((user) => user.credentialsId))
  return (await listCredentials(catalog)).filter((row) => used.has(row.id))
}

/** Removes them, and whatever refers to them goes without. Part of a transaction of the caller. */
export async function forgetCredentials(transaction: Transaction<Database>, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return
  for (const table of ['sources', 'backup_repositories'] as const) {
    await transaction.updateTable(table).set({ credentials_id: null }).where('credentials_id', 'in', ids).execute()
  }
  await transaction.deleteFrom('sealed_credentials').where('id', 'in', ids).execute()
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
