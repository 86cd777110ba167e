import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { randomUUID } from 'node:crypto'
import { createTestCatalog } from '../../test/catalog.ts'
import type { TestCatalog } from '../../test/catalog.ts'
import { insertBackup, insertRepository, insertVm } from '../../test/catalog-rows.ts'
import { failureOf } from '../../test/failure.ts'
import type { Catalog } from '../client.ts'
import { endBackup } from './backup-records.ts'
import { reserveSpace, reservationOf, standingReservations } from './reservations.ts'

const MIB = 1024 * 1024
/** Of which 256 MiB stay free. */
const TOTAL_BYTES = 100 * 1024 * MIB

let database: TestCatalog
let catalog: Catalog
let repository: { id: string; name: string }
beforeAll(async () => {
  database = await createTestCatalog()
  catalog = database.catalog
})
afterAll(() => database.drop())

beforeEach(async () => {
  repository = { id: `repo-${randomUUID()}`, name: randomUUID() }
  await insertRepository(catalog, repository.id, repository.name)
})

async function unfinishedBackup(progress: { total_bytes?: number; processed_bytes?: number; bytes_transferred?: number } = {}) {
  const id = randomUUID()
  await insertVm(catalog, id)
  const running = { status: 'running' as const, completed_at: null, ...progress }
  await insertBackup(catalog, { id, vm_context_id: id, repository_id: repository.id, ...running })
  return id
}

function reserve(backupId: string, needMib: number, availableMib: number, from: Catalog = catalog): Promise<void> {
  const probe = () => Promise.resolve({ totalBytes: TOTAL_BYTES, availableBytes: availableMib * MIB })
  return reserveSpace(from, { backupId, repository, needBytes: needMib * MIB }, probe)
}

describe('two backups that count on the same free bytes', () => {
  test('one gets them, and the other learns who has them', async () => {
    const [first, second] = [await unfinishedBackup(), await unfinishedBackup()]
    const others = database.open()
    const outcomes = await Promise.allSettled([reserve(first, 600, 1_000), reserve(second, 600, 1_000, others)])
    expect(outcomes.map((outcome) => outcome.status).toSorted()).toEqual(['fulfilled', 'rejected'])
    const [winner, loser] = outcomes[0].status === 'fulfilled' ? [first, outcomes[1]] : [second, outcomes[0]]
    expect(loser).toMatchObject({
      reason: {
        code: 'INSUFFICIENT_STORAGE',
        retryable: false,
        message: expect.stringContaining(winner),
        details: {
          required_bytes: 856 * MIB,
          available_bytes: 1_000 * MIB,
          reserved_bytes: 600 * MIB,
          reserved_by: [{ backup_id: winner, bytes: 600 * MIB }],
        },
      },
    })
    expect((await standingReservations(catalog, repository.id)).map((one) => one.backupId)).toEqual([winner])
  })

  test('ten at once, room for three: three', async () => {
    const ids = await Promise.all(Array.from({ length: 10 }, () => unfinishedBackup()))
    const outcomes = await Promise.allSettled(ids.map((id) => reserve(id, 100, 256 + 350)))
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(3)
  })

  test('of different repositories do not meet', async () => {
    const first = await unfinishedBackup()
    await reserve(first, 600, 1_000)
    repository = { id: `repo-${randomUUID()}`, name: randomUUID() }
    await insertRepository(catalog, repository.id, repository.name)
    const second = await unfinishedBackup()
    await reserve(second, 600, 1_000)
    expect(await standingReservations(catalog, repository.id)).toHaveLength(1)
  })
})

test('asked again it reserves once, with what is needed now', async () => {
  const id = await unfinishedBackup()
  await reserve(id, 600, 1_000)
  await reserve(id, 600, 1_000)
  await reserve(id, 500, 1_000)
  expect(await reservationOf(catalog, id)).toMatchObject({ backupId: id, reservedBytes: 500 * MIB })
})

test('what a backup has written is on the disk already, and no longer reserved', async () => {
  const first = await unfinishedBackup({ total_bytes: 900 * MIB, processed_bytes: 500 * MIB, bytes_transferred: 450 * MIB })
  await reserve(first, 600, 1_000)
  const second = await unfinishedBackup()
  // 1 000 free, 150 still to be written by the first, 256 stay free.
  expect(await failureOf(reserve(second, 595, 1_000))).toMatchObject({ details: { reserved_bytes: 150 * MIB } })
  await reserve(second, 594, 1_000)
})

test('what is written while the free space is looked at counts once', async () => {
  const first = await unfinishedBackup({ total_bytes: 900 * MIB })
  await reserve(first, 600, 1_000)
  const second = await unfinishedBackup()
  // The first writes on after the probe: its progress says more than the free bytes that were seen.
  const probe = async () => {
    const written = { bytes_transferred: 600 * MIB, processed_bytes: 900 * MIB }
    await catalog.updateTable('backup_jobs').set(written).where('id', '=', first).execute()
    return { totalBytes: TOTAL_BYTES, availableBytes: 1_000 * MIB }
  }
  const asking = reserveSpace(catalog, { backupId: second, repository, needBytes: 200 * MIB }, probe)
  expect(await failureOf(asking)).toMatchObject({ code: 'INSUFFICIENT_STORAGE', details: { reserved_bytes: 600 * MIB } })
})

test('a backup that has ended reserves nothing', async () => {
  const first = await unfinishedBackup()
  await reserve(first, 600, 1_000)
  await endBackup(catalog, { backupId: first, state: 'failed', code: 'INTERNAL', message: 'x' })
  expect(await reservationOf(catalog, first)).toBeUndefined()
  await reserve(await unfinishedBackup(), 600, 1_000)
})

test('nor does one whose end was noted by something that forgot the reservation', async () => {
  const first = await unfinishedBackup()
  await reserve(first, 600, 1_000)
  await catalog.updateTable('backup_jobs').set({ status: 'cancelled' }).where('id', '=', first).execute()
  await reserve(await unfinishedBackup(), 600, 1_000)
  expect(await standingReservations(catalog, repository.id)).toHaveLength(1)
})
