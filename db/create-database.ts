/** Makes the database itself, before migrations fill it. */
import { sql } from 'kysely'
import { HoldfastError } from '../domain/errors.ts'
import { createCatalog } from './client.ts'
import { parseDatabaseUrl, withoutDatabase } from './database-url.ts'

/** Creates the database that `databaseUrl` names, unless it exists. Idempotent. `CATALOG_UNAVAILABLE`, `INVALID_REQUEST`. */
export async function ensureDatabase(databaseUrl: string): Promise<void> {
  const { database } = parseDatabaseUrl(databaseUrl)
  if (database === undefined) {
    throw new HoldfastError('INVALID_REQUEST', 'DATABASE_URL names no database: add "/holdfast" after the host.')
  }
  const server = createCatalog(withoutDatabase(databaseUrl), { connections: 1 })
  try {
    await sql`create database if not exists ${sql.id(database)} character set utf8mb4 collate utf8mb4_nopad_bin`.execute(server)
  } finally {
    await server.destroy()
  }
}
