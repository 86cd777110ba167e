/** A catalog for one test file: a fresh database with all migrations, on the MariaDB of the test run. */
import { randomBytes } from 'node:crypto'
import { userInfo } from 'node:os'
import { sql } from 'kysely'
import { inject } from 'vitest'
import { createCatalog } from '../db/client.ts'
import type { Catalog, CatalogOptions } from '../db/client.ts'
import { ensureDatabase } from '../db/create-database.ts'
import { withoutDatabase } from '../db/database-url.ts'
import { migrateToLatest } from '../db/migrate.ts'

export interface TestDatabase {
  /** For a process of its own: goes into `DATABASE_URL`. */
  databaseUrl: string
  /** Opens the database once more; closed by {@link drop}. */
  open(options?: CatalogOptions): Catalog
  /** Closes every catalog opened on it, then drops the database. Idempotent. */
  drop(): Promise<void>
}

export interface TestCatalog extends TestDatabase {
  catalog: Catalog
}

/** With all migrations. Call `drop()` in `afterAll` or `onTestFinished`. */
export async function createTestCatalog(): Promise<TestCatalog> {
  const database = await createTestDatabase()
  const catalog = database.open()
  try {
    await migrateToLatest(catalog)
  } catch (error) {
    await database.drop()
    throw error
  }
  return { ...database, catalog }
}

/** Without any table. */
export async function createTestDatabase(socketPath: string = inject('mariadbSocket')): Promise<TestDatabase> {
  const name = `test_${process.pid}_${randomBytes(6).toString('hex')}`
  const user = encodeURIComponent(userInfo().username)
  const databaseUrl = `mysql://${user}@localhost/${name}?socketPath=${encodeURIComponent(socketPath)}`
  await ensureDatabase(databaseUrl)
  const opened: Catalog[] = []
  const open = (options: CatalogOptions = {}): Catalog => {
    const catalog = createCatalog(databaseUrl, options)
    opened.push(catalog)
    return catalog
  }
  return {
    databaseUrl,
    open,
    async drop() {
      const catalogs = opened.splice(0)
      await Promise.all(catalogs.map((catalog) => catalog.destroy()))
      const last = createCatalog(withoutDatabase(databaseUrl), { connections: 1 })
      try {
        await sql`drop database if exists ${sql.id(name)}`.execute(last)
      } finally {
        await last.destroy()
      }
    },
  }
}
