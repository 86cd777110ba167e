/** From a row of the catalog, or settings that are to become one, to the platform that they name. */
import type { Catalog } from '../db/client.ts'
import { findSource } from '../db/queries/sources.ts'
import type { SourceType } from '../domain/backup.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import { unsealCredentials } from '../security/sealed-credentials.ts'
import { createSource } from '../sources/registry.ts'
import type { Source } from '../sources/source.ts'

export interface SourceReference {
  source_type: SourceType
  /** Of a connection in `sources`; `null` for types that need none. */
  source_id: string | null
}

/** A connection, in the catalog or not: its credentials are referred to, never held. */
export interface SourceSettings {
  sourceId: string
  sourceType: SourceType
  config: JsonObject
  credentialsId: string | null
}

export interface SourceFinderOptions {
  catalog: Catalog
  /** Where the key that seals credentials lies. */
  keysFolder: string
  /** Of this process: sockets and, while they are needed, key files go below it. */
  runFolder: string
}

/** Credentials are opened here, in the process that uses them, and nowhere else. */
export function createSourceOpener({ catalog, keysFolder, runFolder }: SourceFinderOptions) {
  return async ({ sourceId, sourceType, config, credentialsId }: SourceSettings): Promise<Source> => {
    const credentials = await unsealCredentials(catalog, keysFolder, credentialsId)
    return createSource(sourceType, { runFolder, connection: { id: sourceId, config, credentials } })
  }
}

export function createSourceFinder(options: SourceFinderOptions) {
  const open = createSourceOpener(options)
  return async ({ source_type: type, source_id: sourceId }: SourceReference): Promise<Source> => {
    if (sourceId === null) return createSource(type, { runFolder: options.runFolder, connection: null })
    const found = await findSource(options.catalog, sourceId)
    if (!found) {
      throw new HoldfastError(
        'SOURCE_CONNECTION_NOT_FOUND',
        `Source connection ${sourceId} is not in the catalog (any more): add it again, then discover its VMs.`,
        { details: { source_id: sourceId } },
      )
    }
    const { source_type: sourceType, config, credentials_id: credentialsId } = found
    return open({ sourceId, sourceType, config, credentialsId })
  }
}
