/**
 * Pins: who reads a backup now, and who deletes it. Both take the backup's row lock first, so that one of them sees the other:
 * a backup that is being read is not deleted, and one that is being deleted is not read.
 */
import type { Selectable, Transaction } from 'kysely'
import { dependentsOf } from '../../domain/chain.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { Catalog } from '../client.ts'
import type { BackupJobsTable, BackupPinsTable, Database } from '../schema.ts'
import { refuseRetained } from './backup-locks.ts'
import { listChainBackups } from './backup-records.ts'

/** The reason of the pin that marks a backup for deletion. It goes with the row, or when the deletion is taken back. */
export const DELETION_MARK = 'deletion'

export interface Pin {
  backupId: string
  ownerWorkflowId: string
}

type Job = Selectable<BackupJobsTable>

/** Pins a completed backup for reading. Its ancestors need no pin: they have a dependent. `BACKUP_NOT_FOUND`, `BACKUP_NOT_COMPLETED`. Idempotent. */
export async function pinForReading(catalog: Catalog, pin: Pin, reason: string): Promise<void> {
  await catalog.transaction().execute(async (transaction) => {
    const job = await lockBackup(transaction, pin.backupId)
    const marked = (await pinsOf(transaction, pin.backupId)).some((other) => other.reason === DELETION_MARK)
    if (marked) throw notFound(pin.backupId, 'is being deleted')
    if (job.status !== 'completed') {
      throw new HoldfastError('BACKUP_NOT_COMPLETED', `Backup ${job.id} is ${job.status}: only a completed backup can be read.`, {
        details: { backup_id: job.id, status: job.status },
      })
    }
    await insertPin(transaction, pin, reason)
  })
}

/** Marks a backup that nothing needs, nobody reads and nothing retains. `BACKUP_NOT_FOUND`, `IMMUTABLE_RETENTION_ACTIVE`, `BACKUP_HAS_DEPENDENTS`, `BACKUP_PINNED`, `VM_BUSY`. Idempotent. */
export async function markForDeletion(catalog: Catalog, mark: Pin): Promise<void> {
  await catalog.transaction().execute(async (transaction) => {
    const job = await lockBackup(transaction, mark.backupId)
    if (job.status === 'pending' || job.status === 'running') throw stillAtWork(job)
    await refuseRetained(transaction, job)
    await refuseDependents(transaction, job)
    const others = (await pinsOf(transaction, job.id)).filter((pin) => pin.owner_workflow_id !== mark.ownerWorkflowId)
    if (others.length > 0) throw pinned(job.id, others)
    await insertPin(transaction, mark, DELETION_MARK)
  })
}

/** Idempotent. */
export async function removePin(catalog: Catalog, pin: Pin): Promise<void> {
  await catalog
    .deleteFrom('backup_pins')
    .where('backup_id', '=', pin.backupId)
    .where('owner_workflow_id', '=', pin.ownerWorkflowId)
    .execute()
}

/** A pin as it was seen; another one of the same owner has another time. */
export type ObservedPin = Selectable<BackupPinsTable>

/**
 * Pins of readers, without those of restores that the catalog holds for unfinished and of mounts: what such a restore wrote, and what is mounted, is
 * found through its backup, which must not be deleted before that has been settled.
 */
export async function listReaderPins(catalog: Catalog): Promise<ObservedPin[]> {
  return catalog
    .selectFrom('backup_pins')
    .selectAll()
    .where('reason', '!=', DELETION_MARK)
    .where((pin) =>
      pin.not(
        pin.exists(
          pin
            .selectFrom('restore_jobs')
            .select('restore_jobs.id')
            .whereRef('restore_jobs.workflow_id', '=', 'backup_pins.owner_workflow_id')
            .where('restore_jobs.status', 'in', ['pending', 'running']),
        ),
      ),
    )
    .where((pin) =>
      pin.not(
        pin.exists(
          pin
            .selectFrom('restore_mounts')
            .select('restore_mounts.id')
            .whereRef('restore_mounts.workflow_id', '=', 'backup_pins.owner_workflow_id'),
        ),
      ),
    )
    .execute()
}

export async function listDeletionMarks(catalog: Catalog, backupId: string): Promise<ObservedPin[]> {
  return catalog
    .selectFrom('backup_pins')
    .selectAll()
    .where('backup_id', '=', backupId)
    .where('reason', '=', DELETION_MARK)
    .execute()
}

/** Removes exactly this pin; one that its owner set anew stays. Whether it was there. */
export async function removeObservedPin(catalog: Catalog, pin: ObservedPin): Promise<boolean> {
  const { numDeletedRows } = await catalog
    .deleteFrom('backup_pins')
    .where('backup_id', '=', pin.backup_id)
    .where('owner_workflow_id', '=', pin.owner_workflow_id)
    .where('created_at', '=', pin.created_at)
    .executeTakeFirstOrThrow()
  return numDeletedRows > 0n
}

async function lockBackup(transaction: Transaction<Database>, backupId: string): Promise<Job> {
  const job = await transaction.selectFrom('backup_jobs').selectAll().where('id', '=', backupId).forUpdate().executeTakeFirst()
  if (!job) throw notFound(backupId, 'is not in the catalog')
  return job
}

/** The locking read sees what others committed, where a plain one would answer from the transaction's snapshot. */
async function pinsOf(transaction: Transaction<Database>, backupId: string): Promise<Selectable<BackupPinsTable>[]> {
  return transaction.selectFrom('backup_pins').selectAll().where('backup_id', '=', backupId).forUpdate().execute()
}

/** Set anew when it stands already, so that whoever looked at the old one does not remove the new. */
async function insertPin(transaction: Transaction<Database>, pin: Pin, reason: string): Promise<void> {
  const { backupId, ownerWorkflowId } = pin
  await transaction
    .deleteFrom('backup_pins')
    .where('backup_id', '=', backupId)
    .where('owner_workflow_id', '=', ownerWorkflowId)
    .execute()
  await transaction
    .insertInto('backup_pins')
    .values({ backup_id: backupId, owner_workflow_id: ownerWorkflowId, reason })
    .execute()
}

async function refuseDependents(transaction: Transaction<Database>, job: Job): Promise<void> {
  const backups = await listChainBackups(transaction, job.vm_context_id, job.repository_id)
  const needing = backups.filter((backup) => backup.state !== 'failed' && backup.state !== 'cancelled')
  const dependents = dependentsOf(job.id, needing).toReversed()
  if (dependents.length === 0) return
  throw new HoldfastError(
    'BACKUP_HAS_DEPENDENTS',
    `Backup ${job.id} is needed by ${dependents.join(', ')}: delete those first, newest first.`,
    {
      details: { backup_id: job.id, dependents },
    },
  )
}

function pinned(backupId: string, pins: Selectable<BackupPinsTable>[]): HoldfastError {
  const uses = pins.map((pin) => pin.reason).join(', ')
  return new HoldfastError('BACKUP_PINNED', `Backup ${backupId} is in use (${uses}): wait until that has ended, or cancel it.`, {
    details: { backup_id: backupId, pinned_by: pins.map((pin) => pin.owner_workflow_id) },
  })
}

function stillAtWork(job: Job): HoldfastError {
  return new HoldfastError(
    'VM_BUSY',
    `Backup ${job.id} is ${job.status}: cancel it first, or let it be cleaned up after a crash.`,
    {
      details: { backup_id: job.id, status: job.status },
    },
  )
}

function notFound(backupId: string, why: string): HoldfastError {
  return new HoldfastError('BACKUP_NOT_FOUND', `Backup ${backupId} ${why}.`, { details: { backup_id: backupId } })
}
