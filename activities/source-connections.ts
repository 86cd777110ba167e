/** From a row of the catalog to the platform that it names. */
import type { Catalog } from '../db/client.ts'
import { findSource } from '../db/queries/sources.ts'
import type { SourceType } from '../domain/backup.ts'
import { HoldfastError } from '../domain/errors.ts'
import { unsealCredentials } from '../security/sealed-credentials.ts'
import { createSource } from '../sources/registry.ts'
import type { Source } from '../sources/source.ts'

export interface SourceReference {
  source_type: SourceType
  /** Of a connection in `sources`; `null` for types that need none. */
  source_id: string | null
}

export interface SourceFinderOptions {
  catalog: Catalog
  /** Where the key that seals credentials lies. */
  keysFolder: string
  /** Of this process: sockets and, while they are needed, key files go below it. */
  runFolder: string
}

/** Credentials are opened here, in the process that uses them, and nowhere else. */
export function createSourceFinder({ catalog, keysFolder, runFolder }: SourceFinderOptions) {
  return async ({ source_type: type, source_id: sourceId }: SourceReference): Promise<Source> => {
    if (sourceId === null) return createSource(type, { runFolder, connection: null })
    const found = await findSource(catalog, sourceId)
    if (!found) {
      throw new HoldfastError(
        'SOURCE_CONNECTION_NOT_FOUND',
        `Source connection ${sourceId} is not in the catalog (any more): add it again, then discover its VMs.`,
        { details: { source_id: sourceId } },
      )
    }
    const credentials = await unsealCredentials(catalog, keysFolder, found.credentials_id)
    return createSource(found.source_type, { runFolder, connection: { id: found.id, config: found.config, credentials } })
  }
}
