/** Catalog steps of source connections. */
import type { Catalog } from '../db/client.ts'
import { deleteUnreferencedCredentials } from '../db/queries/credentials.ts'
import {
  checkSourceIsNew,
  insertSource,
  recordSourceFailure,
  recordSourceReached,
  replaceSource,
} from '../db/queries/source-records.ts'
import type { ErrorCode } from '../domain/errors.ts'
import { discardCredentials } from '../security/sealed-credentials.ts'
import type { PlatformInfo } from '../sources/source.ts'
import type { SourceRequest } from '../temporal/operations.ts'
import { guarded } from './failure.ts'
import type { Repair } from './reconciliation.ts'

/** Whoever stored credentials has long recorded what they are for, or failed. */
const UNUSED_CREDENTIALS_MS = 60 * 60 * 1000

export interface SourceRecordActivities {
  /** `SOURCE_EXISTS` */
  checkSourceIsNew(source: SourceRequest): Promise<void>

  /** `SOURCE_EXISTS`. Idempotent by id. */
  recordSource(input: SourceRequest & { found: PlatformInfo }): Promise<void>

  /** The old credentials are forgotten with the old settings. `SOURCE_EXISTS`, `SOURCE_CONNECTION_NOT_FOUND`. Idempotent. */
  recordSourceChange(input: SourceRequest & { found: PlatformInfo }): Promise<void>

  /** Nothing happens when the source is gone. */
  recordSourceReached(input: { sourceId: string; found: PlatformInfo }): Promise<void>

  /** Nothing happens when the source is gone. */
  recordSourceFailure(failure: { sourceId: string; code: ErrorCode; message: string }): Promise<void>

  /** Those of a recorded source or repository stay. Idempotent. */
  discardCredentials(credentialsId: string): Promise<void>

  /** Credentials that no source or repository refers to for an hour: whoever stored them died before saying what for. */
  removeUnusedCredentials(): Promise<Repair[]>
}

/** Steps of the control worker. */
export function createSourceRecordActivities({ catalog }: { catalog: Catalog }): SourceRecordActivities {
  return guarded({
    async checkSourceIsNew(source: SourceRequest): Promise<void> {
      await checkSourceIsNew(catalog, source)
    },

    async recordSource({ found, ...source }: SourceRequest & { found: PlatformInfo }): Promise<void> {
      await insertSource(catalog, source, found)
    },

    async recordSourceChange({ found, ...source }: SourceRequest & { found: PlatformInfo }): Promise<void> {
      await replaceSource(catalog, source, found)
    },

    async recordSourceReached({ sourceId, found }: { sourceId: string; found: PlatformInfo }): Promise<void> {
      await recordSourceReached(catalog, sourceId, found)
    },

    async recordSourceFailure(failure: { sourceId: string; code: ErrorCode; message: string }): Promise<void> {
      await recordSourceFailure(catalog, failure)
    },

    async discardCredentials(credentialsId: string): Promise<void> {
      await discardCredentials(catalog, credentialsId)
    },

    async removeUnusedCredentials(): Promise<Repair[]> {
      const removed = await deleteUnreferencedCredentials(catalog, new Date(Date.now() - UNUSED_CREDENTIALS_MS))
      return removed === 0 ? [] : [{ kind: 'credentials', what: `removed ${removed} stored credentials that nothing uses` }]
    },
  })
}
