/** Brings the catalog's tables to what this version of Holdfast expects. */
import { Migrator } from 'kysely/migration'
import type { Migration, MigrationResultSet } from 'kysely/migration'
import { HoldfastError } from '../domain/errors.ts'
import type { Catalog } from './client.ts'
import * as foundingTables from './migrations/0001-founding-tables.ts'
import * as sourceConnections from './migrations/0002-source-connections.ts'
import * as vmRestores from './migrations/0003-vm-restores.ts'
import * as restoreMounts from './migrations/0004-restore-mounts.ts'
import * as repositoryCare from './migrations/0005-repository-care.ts'
import { withoutStatementDeadline } from './statement-deadline.ts'

/** Applied in the order of their names; a published one is never changed, only followed by another. */
const migrations: Record<string, Migration> = {
  '0001-founding-tables': foundingTables,
  '0002-source-connections': sourceConnections,
  '0003-vm-restores': vmRestores,
  '0004-restore-mounts': restoreMounts,
  '0005-repository-care': repositoryCare,
}

/**
 * Applies what is missing and returns the names of what it applied. Several processes may call it at once: they take turns, and
 * each migration runs once. Safe to call again after a crash half-way.
 *
 * `CATALOG_UNAVAILABLE` (retryable), or `INTERNAL` when a migration is wrong or the catalog comes from a newer Holdfast; both name the migration.
 */
export async function migrateToLatest(catalog: Catalog, list: Record<string, Migration> = migrations): Promise<string[]> {
  const migrator = new Migrator({ db: catalog, provider: { getMigrations: () => Promise.resolve(list) } })
  const outcome = await withoutStatementDeadline(() => migrator.migrateToLatest())
  if (outcome.error !== undefined) throw migrationFailure(outcome)
  return (outcome.results ?? []).map((result) => result.migrationName)
}

function migrationFailure({ error, results }: MigrationResultSet): HoldfastError {
  const failing = results?.find((result) => result.status === 'Error')?.migrationName
  const subject = failing === undefined ? 'The migrations' : `Migration "${failing}"`
  const reason = error instanceof Error ? error.message : String(error)
  const details = failing === undefined ? {} : { migration: failing }
  const code = error instanceof HoldfastError ? error.code : 'INTERNAL'
  const advice = reason.startsWith('corrupted migrations')
    ? ' The catalog was written by another, probably newer, Holdfast: run that one.'
    : ''
  return new HoldfastError(code, `${subject} of the catalog failed: ${reason}${advice}`, { details, cause: error })
}
