/** The way into the catalog. */
import { Kysely, MysqlDialect } from 'kysely'
import { createPool } from 'mysql2'
import type { Pool, PoolOptions, TypeCastField, TypeCastNext } from 'mysql2'
import { parseDatabaseUrl } from './database-url.ts'
import { guardPool } from './guarded-pool.ts'
import type { PoolDeadlines } from './guarded-pool.ts'
import type { Database } from './schema.ts'

export type Catalog = Kysely<Database>

export interface CatalogOptions extends Partial<PoolDeadlines> {
  /** Connections held at most. Few: statements are short, and every process has its own pool. */
  connections?: number
}

const usualDeadlines: PoolDeadlines = { acquireMs: 15_000, statementMs: 30_000, endMs: 5_000 }

/**
 * Opens the catalog named by a `DATABASE_URL` (see {@link parseDatabaseUrl}). Connects on the first statement, and again by itself
 * after an outage. Every statement fails with a `HoldfastError`: `CATALOG_UNAVAILABLE` (retryable) or one of `driver-errors.ts`.
 *
 * Rows carry what `schema.ts` says: `Date` for DATETIME (UTC), `boolean` for TINYINT(1), `number` for BIGINT and sums of it,
 * parsed values for JSON. The caller ends it with `destroy()`.
 */
export function createCatalog(databaseUrl: string, options: CatalogOptions = {}): Catalog {
  const { connections = 10, ...deadlines } = options
  const pool = createPool(poolOptions(databaseUrl, connections))
  prepareSessions(pool)
  return new Kysely<Database>({ dialect: new MysqlDialect({ pool: guardPool(pool, { ...usualDeadlines, ...deadlines }) }) })
}

function poolOptions(databaseUrl: string, connections: number): PoolOptions {
  return {
    ...parseDatabaseUrl(databaseUrl),
    connectionLimit: connections,
    connectTimeout: 5_000,
    charset: 'utf8mb4',
    timezone: 'Z',
    // Sums of BIGINT are DECIMAL; sizes stay far below 2^53.
    decimalNumbers: true,
    // Otherwise an object given as a value would be spread into SQL.
    stringifyObjects: true,
    typeCast: readColumn,
  }
}

/** mysql2 parses JSON by itself, since MariaDB names it in the result's metadata; a flag it would leave a number. */
function readColumn(field: TypeCastField, next: TypeCastNext): unknown {
  if (field.type !== 'TINY' || field.length !== 1) return next()
  const text = field.string()
  return text === null ? null : text !== '0'
}

/**
 * Whatever the server's defaults: times are UTC, and a value that does not fit is refused instead of being cut to fit.
 * Runs before the first statement of each connection, because a connection answers in order.
 */
function prepareSessions(pool: Pool): void {
  pool.on('connection', (connection) => {
    connection.query(
      "set session time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
      (error) => {
        // A session that could not be prepared must not be used: the statement waiting behind this one fails and is retried.
        if (error) connection.destroy()
      },
    )
  })
}
