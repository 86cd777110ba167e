/** Writing source connections. Every statement may run twice. */
import { HoldfastError } from '../../domain/errors.ts'
import type { ErrorCode } from '../../domain/errors.ts'
import type { Catalog } from '../client.ts'
import { isDuplicateKey } from '../driver-errors.ts'
import { deleteCredentials } from './credentials.ts'
import { findConflictingSource, findSource, sourceNotFound } from './sources.ts'
import type { SourcePlace } from './sources.ts'

export interface NewSource extends SourcePlace {
  credentialsId: string | null
  maxConcurrentBackups: number
}

/** What a platform said of itself. */
export interface FoundPlatform {
  version: string
  hostname: string
  warnings: string[]
}

/** `SOURCE_EXISTS` when the name, or the platform, is taken by another source. */
export async function checkSourceIsNew(catalog: Catalog, source: SourcePlace): Promise<void> {
  const other = await findConflictingSource(catalog, source)
  if (other) throw sourceExists(other)
}

/** Records a source that was reached. `SOURCE_EXISTS` when the name was taken meanwhile. Idempotent by id. */
export async function insertSource(catalog: Catalog, source: NewSource, found: FoundPlatform): Promise<void> {
  if (await findSource(catalog, source.sourceId)) return
  await refusingDuplicates(source, () =>
    catalog
      .insertInto('sources')
      .values({
        id: source.sourceId,
        name: source.name,
        source_type: source.sourceType,
        config: JSON.stringify(source.config),
        credentials_id: source.credentialsId,
        host_id: source.hostId,
        max_concurrent_backups: source.maxConcurrentBackups,
        ...reached(found),
      })
      .execute(),
  )
}

/** Puts new settings, which were reached, in place of the old ones, and forgets the credentials that these used. `SOURCE_EXISTS`. */
export async function replaceSource(catalog: Catalog, source: NewSource, found: FoundPlatform): Promise<void> {
  await refusingDuplicates(source, () =>
    catalog.transaction().execute(async (transaction) => {
      const before = await transaction
        .selectFrom('sources')
        .select('credentials_id')
        .where('id', '=', source.sourceId)
        .forUpdate()
        .executeTakeFirst()
      if (!before) throw sourceNotFound(source.sourceId)
      await transaction
        .updateTable('sources')
        .set({
          name: source.name,
          config: JSON.stringify(source.config),
          credentials_id: source.credentialsId,
          max_concurrent_backups: source.maxConcurrentBackups,
          ...reached(found),
        })
        .where('id', '=', source.sourceId)
        .execute()
      await deleteCredentials(transaction, before.credentials_id)
    }),
  )
}

/** What has no bearing on how the platform is reached. `SOURCE_EXISTS`. Nothing happens when the source is gone. */
export async function relabelSource(
  catalog: Catalog,
  sourceId: string,
  { name, maxConcurrentBackups }: { name: string; maxConcurrentBackups: number },
): Promise<void> {
  await refusingDuplicates({ name }, () =>
    catalog
      .updateTable('sources')
      .set({ name, max_concurrent_backups: maxConcurrentBackups })
      .where('id', '=', sourceId)
      .execute(),
  )
}

/** What a test of a source found. Nothing happens when it is gone. */
export async function recordSourceReached(catalog: Catalog, sourceId: string, found: FoundPlatform): Promise<void> {
  await catalog.updateTable('sources').set(reached(found)).where('id', '=', sourceId).execute()
}

/** Why a test or a discovery failed. Nothing happens when the source is gone. */
export async function recordSourceFailure(
  catalog: Catalog,
  { sourceId, code, message }: { sourceId: string; code: ErrorCode; message: string },
): Promise<void> {
  await catalog
    .updateTable('sources')
    .set({ status: 'unreachable', error_code: code, error_message: message, last_tested_at: new Date() })
    .where('id', '=', sourceId)
    .execute()
}

/**
 * Forgets a source, its VM contexts and its credentials; returns how many VMs it had. `SOURCE_IN_USE` while any of them has a backup, of
 * whatever state: a backup never goes with its source. `SOURCE_CONNECTION_NOT_FOUND`.
 */
export async function deleteSource(catalog: Catalog, sourceId: string): Promise<number> {
  return catalog.transaction().execute(async (transaction) => {
    const source = await transaction
      .selectFrom('sources')
      .select(['name', 'credentials_id'])
      .where('id', '=', sourceId)
      .forUpdate()
      .executeTakeFirst()
    if (!source) throw sourceNotFound(sourceId)
    // Locked, so that no backup of one of them is recorded until they are gone: its row would refer to one of these.
    const vms = await transaction
      .selectFrom('vm_contexts')
      .select('context_id')
      .where('source_id', '=', sourceId)
      .forUpdate()
      .execute()
    const contextIds = vms.map((vm) => vm.context_id)
    if (contextIds.length > 0) {
      const { backups } = await transaction
        .selectFrom('backup_jobs')
        .select((row) => row.fn.countAll<number>().as('backups'))
        .where('vm_context_id', 'in', contextIds)
        .executeTakeFirstOrThrow()
      if (backups > 0) throw sourceInUse(sourceId, source.name, backups)
      await transaction.deleteFrom('vm_contexts').where('source_id', '=', sourceId).execute()
    }
    await transaction.deleteFrom('sources').where('id', '=', sourceId).execute()
    await deleteCredentials(transaction, source.credentials_id)
    return contextIds.length
  })
}

function reached(found: FoundPlatform) {
  return {
    status: 'reachable' as const,
    version: found.version.slice(0, 255),
    hostname: found.hostname.slice(0, 255),
    warnings: JSON.stringify(found.warnings),
    error_code: null,
    error_message: null,
    last_tested_at: new Date(),
  }
}

async function refusingDuplicates(source: { name: string }, write: () => Promise<unknown>): Promise<void> {
  try {
    await write()
  } catch (error) {
    if (isDuplicateKey(error, 'unique_name')) throw sourceExists({ id: null, name: source.name, what: 'name' })
    throw error
  }
}

function sourceExists({ id, name, what }: { id: string | null; name: string; what: 'name' | 'platform' }): HoldfastError {
  const message =
    what === 'name'
      ? `Another source is named "${name}": choose another name.`
      : `Source "${name}" leads to this platform already: two sources of one platform would undo each other's change tracking. Use that one.`
  return new HoldfastError('SOURCE_EXISTS', message, { details: { source_id: id, taken: what } })
}

function sourceInUse(sourceId: string, name: string, backups: number): HoldfastError {
  return new HoldfastError(
    'SOURCE_IN_USE',
    `VMs of source "${name}" have ${backups} ${backups === 1 ? 'backup' : 'backups'}, which must not lose their VM: delete the backups first, or keep the source.`,
    { details: { source_id: sourceId, backup_count: backups } },
  )
}
