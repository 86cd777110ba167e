/** Makes a database server and a Temporal server, ours or somebody else's, ready for Holdfast. All of it may be repeated. */
import { createCatalog } from '../db/client.ts'
import { ensureDatabase } from '../db/create-database.ts'
import { migrateToLatest } from '../db/migrate.ts'
import { HoldfastError } from '../domain/errors.ts'
import { ensureFirstAdmin } from '../security/first-admin.ts'
import { connectTemporal } from '../temporal/connection.ts'
import { ensureNamespace } from '../temporal/search-attributes.ts'

/** Someone must be able to log in; shown to the person, kept nowhere. */
export interface FirstAdmin {
  username: string
  password: string
}

/** Creates the database, its tables and, when there is no user yet, the first one, whose password is returned this once. `CATALOG_UNAVAILABLE`. */
export async function prepareCatalog(databaseUrl: string): Promise<FirstAdmin | null> {
  await ensureDatabase(databaseUrl)
  const catalog = createCatalog(databaseUrl, { connections: 2 })
  try {
    await migrateToLatest(catalog)
    return await ensureFirstAdmin(catalog)
  } finally {
    await catalog.destroy()
  }
}

/** Creates the namespace and its search attributes. `ORCHESTRATOR_UNAVAILABLE` names the address. */
export async function prepareOrchestrator(temporalAddress: string, temporalNamespace: string): Promise<void> {
  const client = connectTemporal({ temporalAddress, temporalNamespace })
  try {
    await ensureNamespace(client.connection, temporalNamespace)
  } catch (cause) {
    throw new HoldfastError(
      'ORCHESTRATOR_UNAVAILABLE',
      `Temporal at ${temporalAddress} (TEMPORAL_ADDRESS) cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    )
  } finally {
    await client.connection.close()
  }
}
