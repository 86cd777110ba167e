/** How many backups of one source may run at a time. A slot is a mark on the backup's row: it is free again when the backup has ended. */
import { HoldfastError } from '../../domain/errors.ts'
import type { Catalog } from '../client.ts'

/**
 * Takes a slot of the backup's source for it, once. `SOURCE_BUSY` (retryable) while all are taken. Backups of VMs without a source
 * connection need none.
 */
export async function takeSourceSlot(catalog: Catalog, backupId: string): Promise<void> {
  const source = await catalog
    .selectFrom('backup_jobs')
    .innerJoin('vm_contexts', 'vm_contexts.context_id', 'backup_jobs.vm_context_id')
    .innerJoin('sources', 'sources.id', 'vm_contexts.source_id')
    .select(['sources.id', 'sources.name'])
    .where('backup_jobs.id', '=', backupId)
    .where('backup_jobs.source_slot_at', 'is', null)
    .executeTakeFirst()
  if (!source) return
  await catalog.transaction().execute(async (transaction) => {
    // The lock makes those who count take turns.
    const { max_concurrent_backups: most } = await transaction
      .selectFrom('sources')
      .select('max_concurrent_backups')
      .where('id', '=', source.id)
      .forUpdate()
      .executeTakeFirstOrThrow()
    const { taken } = await transaction
      .selectFrom('backup_jobs')
      .innerJoin('vm_contexts', 'vm_contexts.context_id', 'backup_jobs.vm_context_id')
      .select((row) => row.fn.countAll<number>().as('taken'))
      .where('vm_contexts.source_id', '=', source.id)
      .where('backup_jobs.status', 'in', ['pending', 'running'])
      .where('backup_jobs.source_slot_at', 'is not', null)
      .executeTakeFirstOrThrow()
    if (taken >= most) {
      throw new HoldfastError('SOURCE_BUSY', `Source "${source.name}" runs ${taken} backups, the most it may: this one waits.`, {
        details: { source_id: source.id, max_concurrent_backups: most },
      })
    }
    await transaction.updateTable('backup_jobs').set({ source_slot_at: new Date() }).where('id', '=', backupId).execute()
  })
}
