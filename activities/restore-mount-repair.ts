/** Repairs of restore mounts on their host: those whose workflow is gone. */
import { deleteRestoreMount, markUnmounting } from '../db/queries/restore-mount-records.ts'
import { findRestoreMount, knownRestoreMounts } from '../db/queries/restore-mounts.ts'
import type { HostDependencies } from './host-dependencies.ts'
import type { AbandonedWork, Repair } from './reconciliation.ts'
import { closeMount } from './restore-mounts.ts'

/** Unmounts what nobody holds any more; its pin goes with the others that have no reader. One that began since it was looked for is left alone. */
export async function settleMount(
  { catalog, mounts }: HostDependencies,
  { id: mountId, markedAt }: Omit<AbandonedWork, 'hostId' | 'repositoryId'>,
): Promise<Repair[]> {
  const row = await findRestoreMount(catalog, mountId)
  if (!row || row.created_at.toISOString() !== markedAt) return []
  // A step of the lost workflow that is still at work must not open it again behind us.
  await markUnmounting(catalog, mountId, row.created_at)
  await closeMount(mounts, mountId)
  await deleteRestoreMount(catalog, mountId, row.created_at)
  return [{ kind: 'mount', what: `unmounted disk ${row.disk_index} of ${row.backup_id}: the workflow of its mount is gone` }]
}

/** A disk is opened after its row was written and closed before the row goes: one that is open without a row belongs to nobody. */
export async function closeUnknownMounts({ catalog, mounts }: HostDependencies): Promise<Repair[]> {
  const open = mounts.ids()
  const known = await knownRestoreMounts(catalog, open)
  const unknown = open.filter((mountId) => !known.has(mountId))
  await Promise.all(unknown.map((mountId) => closeMount(mounts, mountId)))
  return unknown.map((mountId) => ({ kind: 'mount', what: `closed mount ${mountId}, of which the catalog knows nothing` }))
}
