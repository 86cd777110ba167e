/** Reading restore mounts, and noting that they are used. */
import { sql } from 'kysely'
import type { Selectable } from 'kysely'
import { leaseEnd } from '../../domain/restore-mount.ts'
import type { Catalog } from '../client.ts'
import type { RestoreMountsTable } from '../schema.ts'
import { countUpTo, pageNewestFirst } from './page.ts'
import type { NewestFirst, Page } from './page.ts'

export type RestoreMountRow = Selectable<RestoreMountsTable>

/** Somebody read from a mount. `at`: milliseconds since 1970. */
export interface MountAccess {
  mountId: string
  at: number
}

/** Notes accesses of many mounts in one statement. A time that is earlier than the one noted changes nothing, nor does a mount that is gone. */
export async function noteMountAccess(catalog: Catalog, accesses: readonly MountAccess[]): Promise<void> {
  if (accesses.length === 0) return
  const reports = sql.join(
    accesses.map(({ mountId, at }) => sql`select ${mountId} as id, cast(${new Date(at)} as datetime(3)) as at`),
    sql` union all `,
  )
  await sql`
    update restore_mounts join (select id, max(at) as at from (${reports}) every_report group by id) report
      on restore_mounts.id = report.id
    set restore_mounts.last_access_at = report.at
    where restore_mounts.last_access_at < report.at`.execute(catalog)
}

export async function findRestoreMount(catalog: Catalog, mountId: string): Promise<RestoreMountRow | undefined> {
  return catalog.selectFrom('restore_mounts').selectAll().where('id', '=', mountId).executeTakeFirst()
}

/** Newest first. */
export async function listRestoreMounts(catalog: Catalog, page: Page<NewestFirst>): Promise<RestoreMountRow[]> {
  return pageNewestFirst(catalog.selectFrom('restore_mounts').selectAll(), 'created_at', page).execute()
}

/** All of them: they are bounded by what the hosts may hold. */
export async function countRestoreMounts(catalog: Catalog): Promise<number> {
  return countUpTo(catalog, catalog.selectFrom('restore_mounts'), undefined)
}

/** Of these, the ids that have a row. */
export async function knownRestoreMounts(catalog: Catalog, mountIds: readonly string[]): Promise<Set<string>> {
  if (mountIds.length === 0) return new Set()
  const rows = await catalog.selectFrom('restore_mounts').select('id').where('id', 'in', mountIds).execute()
  return new Set(rows.map((row) => row.id))
}

/** When the mount ends if nobody uses it from now on. */
export function mountExpiry(row: RestoreMountRow): Date {
  const lease = {
    startedAt: row.created_at.getTime(),
    idleMs: row.idle_seconds * 1000,
    maximumMs: row.maximum_seconds * 1000,
  }
  return new Date(leaseEnd(lease, row.last_access_at.getTime()))
}
