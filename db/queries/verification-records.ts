/** The result of reading a backup back. */
import type { Catalog } from '../client.ts'

export interface VerificationRecord {
  backupId: string
  status: 'passed' | 'failed'
  message: string
}

/**
 * Stores the result. `failed` is kept for ever: what was unreadable once is never trusted as a parent again, even if it
 * reads well later; a later pass is told in the message only.
 */
export async function recordVerificationResult(
  catalog: Catalog,
  { backupId, status, message }: VerificationRecord,
): Promise<void> {
  const now = new Date()
  const rows = catalog.updateTable('backup_jobs').where('id', '=', backupId)
  if (status === 'failed') {
    await rows.set({ verification_status: 'failed', verified_at: now, verification_message: message }).execute()
    return
  }
  await rows
    .set({ verification_status: 'passed', verified_at: now, verification_message: message })
    .where('verification_status', '<>', 'failed')
    .execute()
  await rows
    .set({
      verified_at: now,
      verification_message: `${message} An earlier verification failed, so it stays excluded as a parent.`,
    })
    .where('verification_status', '=', 'failed')
    .execute()
}

/** Notes why a backup could not be read back. Its status stays what it was: nothing is known of the backup itself. */
export async function noteVerificationTrouble(catalog: Catalog, backupId: string, message: string): Promise<void> {
  await catalog
    .updateTable('backup_jobs')
    .set({ verification_message: message })
    .where('id', '=', backupId)
    .where('verification_status', '<>', 'failed')
    .execute()
}

/** Marks the backups whose own files are damaged, when the damage was found through a backup that builds on them. */
export async function markDamaged(catalog: Catalog, backupIds: readonly string[], message: string): Promise<void> {
  if (backupIds.length === 0) return
  await catalog
    .updateTable('backup_jobs')
    .set({ verification_status: 'failed', verified_at: new Date(), verification_message: message })
    .where('id', 'in', backupIds)
    .where('status', '=', 'completed')
    .where('verification_status', '<>', 'failed')
    .execute()
}
