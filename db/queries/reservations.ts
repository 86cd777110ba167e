/**
 * Space that admitted backups count on. Free bytes are on the disk for everybody to see; what others have been promised is not, so it is
 * written down, and whoever asks for more takes turns.
 *
 * A reservation counts while its backup has not ended, so nothing that dies can leave one behind that counts.
 */
import { HoldfastError } from '../../domain/errors.ts'
import { outstandingBytes, storageReserveBytes } from '../../domain/storage.ts'
import type { Reservation, StorageInfo } from '../../domain/storage.ts'
import type { Catalog } from '../client.ts'

export interface SpaceRequest {
  backupId: string
  repository: { id: string; name: string }
  needBytes: number
}

/**
 * Reserves what the backup may need, or replaces what it reserved before. `probe` tells the free space as it is now; it is not asked under a lock, a
 * share may take long to answer. `INSUFFICIENT_STORAGE` with `required_bytes`, `available_bytes`, `reserved_bytes` and `reserved_by`. Idempotent.
 */
export async function reserveSpace(
  catalog: Catalog,
  request: SpaceRequest,
  probe: () => Promise<Pick<StorageInfo, 'totalBytes' | 'availableBytes'>>,
): Promise<void> {
  const { backupId, repository, needBytes } = request
  // Before the probe: what is written from now on is missing in the free bytes too late, never too early.
  const before = await standingReservations(catalog, repository.id)
  const storage = await probe()
  await catalog.transaction().execute(async (transaction) => {
    // The lock makes those who count take turns.
    await transaction.selectFrom('backup_repositories').select('id').where('id', '=', repository.id).forUpdate().execute()
    const now = await standingReservations(transaction, repository.id)
    const others = bothLists(before, now).filter((one) => one.backupId !== backupId)
    requireRoom(request, storage, others)
    await transaction
      .insertInto('repository_reservations')
      .values({ backup_id: backupId, repository_id: repository.id, reserved_bytes: needBytes })
      .onDuplicateKeyUpdate({ repository_id: repository.id, reserved_bytes: needBytes })
      .execute()
  })
}

/** Forgets what a backup that ends had reserved. Also inside a transaction. Idempotent. */
export async function releaseSpace(catalog: Catalog, backupId: string): Promise<void> {
  await catalog.deleteFrom('repository_reservations').where('backup_id', '=', backupId).execute()
}

/** What this backup was admitted with, and how far it is; `undefined` when it has reserved nothing. */
export async function reservationOf(catalog: Catalog, backupId: string): Promise<Reservation | undefined> {
  const row = await reservations(catalog).where('repository_reservations.backup_id', '=', backupId).executeTakeFirst()
  return row && asReservation(row)
}

/** Those of backups that have not ended. */
export async function standingReservations(catalog: Catalog, repositoryId: string): Promise<Reservation[]> {
  const rows = await reservations(catalog)
    .where('repository_reservations.repository_id', '=', repositoryId)
    .where('backup_jobs.status', 'in', ['pending', 'running'])
    .execute()
  return rows.map(asReservation)
}

function reservations(catalog: Catalog) {
  return catalog
    .selectFrom('repository_reservations')
    .innerJoin('backup_jobs', 'backup_jobs.id', 'repository_reservations.backup_id')
    .select([
      'repository_reservations.backup_id',
      'repository_reservations.reserved_bytes',
      'backup_jobs.total_bytes',
      'backup_jobs.processed_bytes',
      'backup_jobs.bytes_transferred',
    ])
}

type Row = Awaited<ReturnType<ReturnType<typeof reservations>['executeTakeFirstOrThrow']>>

function asReservation(row: Row): Reservation {
  // A backup that is just being admitted has no size yet: then all of its reservation counts.
  const unreadBytes = row.total_bytes === 0 ? row.reserved_bytes : Math.max(0, row.total_bytes - row.processed_bytes)
  return { backupId: row.backup_id, reservedBytes: row.reserved_bytes, writtenBytes: row.bytes_transferred, unreadBytes }
}

/** As they were before the free space was looked at, and whole where they came later: nothing they wrote may count twice. */
function bothLists(before: readonly Reservation[], now: readonly Reservation[]): Reservation[] {
  const known = new Set(before.map((one) => one.backupId))
  const later = now.filter((one) => !known.has(one.backupId))
  return [...before, ...later.map((one) => ({ ...one, writtenBytes: 0, unreadBytes: one.reservedBytes }))]
}

function requireRoom(
  { repository, needBytes }: SpaceRequest,
  storage: Pick<StorageInfo, 'totalBytes' | 'availableBytes'>,
  others: readonly Reservation[],
): void {
  const { availableBytes } = storage
  const reserveBytes = storageReserveBytes(storage)
  const requiredBytes = needBytes + reserveBytes
  const outstanding = others.map((one) => ({ backup_id: one.backupId, bytes: outstandingBytes(one) }))
  const reservedBy = outstanding.filter(({ bytes }) => bytes > 0)
  const reservedBytes = reservedBy.reduce((sum, { bytes }) => sum + bytes, 0)
  if (requiredBytes <= availableBytes - reservedBytes) return
  const names = reservedBy.map(({ backup_id: id }) => id).join(', ')
  const promised = reservedBytes === 0 ? '' : `, of which ${reservedBytes} are reserved for running backups (${names})`
  throw new HoldfastError(
    'INSUFFICIENT_STORAGE',
    `Repository "${repository.name}" has ${availableBytes} bytes free${promised}; this backup may need ${requiredBytes}, with ${reserveBytes} that stay free. Free space, ${reservedBytes === 0 ? '' : 'wait for the others, '}or use another repository.`,
    {
      details: {
        required_bytes: requiredBytes,
        available_bytes: availableBytes,
        reserved_bytes: reservedBytes,
        reserved_by: reservedBy,
        repository_id: repository.id,
      },
    },
  )
}
