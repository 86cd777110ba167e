/** Forgetting a backup whose files are gone. */
import type { Catalog } from '../client.ts'
import { rebuildChains } from './publication-records.ts'

/** Removes the backup's rows and pins and derives its chains anew. Idempotent. */
export async function recordDeletedBackup(catalog: Catalog, backupId: string): Promise<void> {
  await catalog.transaction().execute(async (transaction) => {
    const job = await transaction
      .selectFrom('backup_jobs')
      .select(['vm_context_id', 'repository_id'])
      .where('id', '=', backupId)
      .forUpdate()
      .executeTakeFirst()
    if (!job) return
    // Backups that failed while building on this one depend on nothing any more; their reference would keep the row.
    await transaction
      .updateTable('backup_jobs')
      .set({ parent_backup_id: null })
      .where('parent_backup_id', '=', backupId)
      .where('status', 'in', ['failed', 'cancelled'])
      .execute()
    await transaction.deleteFrom('backup_pins').where('backup_id', '=', backupId).execute()
    await transaction.deleteFrom('backup_chains').where('latest_backup_id', '=', backupId).execute()
    await transaction.deleteFrom('backup_jobs').where('id', '=', backupId).execute()
    await rebuildChains(transaction, job.vm_context_id, job.repository_id)
  })
}
