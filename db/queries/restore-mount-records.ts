/** Writing the life of a restore mount: its row exists exactly while it does. Its workflow begins and ends it, steps of the host say what is open. */
import type { Updateable } from 'kysely'
import { HoldfastError } from '../../domain/errors.ts'
import type { DriverName, Volume } from '../../domain/restore-mount.ts'
import type { Catalog } from '../client.ts'
import type { RestoreMountsTable } from '../schema.ts'
import { findRestoreMount } from './restore-mounts.ts'

export interface NewRestoreMount {
  mountId: string
  backupId: string
  diskIndex: number
  hostId: string
  workflowId: string
  /** When its lease began, in milliseconds since 1970. */
  startedAt: number
  idleMs: number
  maximumMs: number
}

/** What is open on the host. */
export interface MountedDisk {
  driver: DriverName
  mountPath: string
  device: string
  volumes: readonly Volume[]
}

/** Notes a mount that begins, as `mounting`. A row that a lost workflow left makes way for it. `DISK_NOT_FOUND`. Idempotent. */
export async function insertRestoreMount(catalog: Catalog, mount: NewRestoreMount): Promise<void> {
  const { mountId, backupId, diskIndex } = mount
  const startedAt = new Date(mount.startedAt)
  const diskId = await diskIdOf(catalog, mount)
  await catalog.transaction().execute(async (transaction) => {
    await transaction.deleteFrom('restore_mounts').where('id', '=', mountId).where('created_at', '!=', startedAt).execute()
    await transaction
      .insertInto('restore_mounts')
      .values({
        id: mountId,
        backup_id: backupId,
        backup_disk_id: diskId,
        disk_index: diskIndex,
        host_id: mount.hostId,
        driver: null,
        mount_path: '',
        nbd_device: '',
        filesystem_type: '',
        idle_seconds: wholeSeconds(mount.idleMs),
        maximum_seconds: wholeSeconds(mount.maximumMs),
        last_access_at: startedAt,
        workflow_id: mount.workflowId,
        created_at: startedAt,
      })
      .onDuplicateKeyUpdate({ workflow_id: mount.workflowId })
      .execute()
  })
}

/** Says that it is being opened (again). False when it may not be: it is being unmounted, or its row is gone. */
export async function beginMounting(catalog: Catalog, mountId: string): Promise<boolean> {
  return updateUnlessEnding(catalog, mountId, { status: 'mounting' })
}

/** Says what is open. False when it must be closed again: it is being unmounted, or its row is gone. */
export async function recordMounted(catalog: Catalog, mountId: string, mounted: MountedDisk): Promise<boolean> {
  const readable = mounted.volumes.filter((volume) => volume.state === 'readable')
  return updateUnlessEnding(catalog, mountId, {
    status: 'mounted',
    driver: mounted.driver,
    mount_path: mounted.mountPath,
    nbd_device: mounted.device,
    filesystem_type: [...new Set(readable.map((volume) => volume.fileSystem))].join(', ').slice(0, 255),
    volumes: JSON.stringify(mounted.volumes),
  })
}

/** From here on nothing opens it again. `startedAt`: only if it is still that one. Nothing when its row is gone. */
export async function markUnmounting(catalog: Catalog, mountId: string, startedAt?: Date): Promise<void> {
  await catalog
    .updateTable('restore_mounts')
    .set({ status: 'unmounting' })
    .where('id', '=', mountId)
    .$if(startedAt !== undefined, (query) => query.where('created_at', '=', startedAt!))
    .execute()
}

/** Forgets a mount of which nothing is left. `startedAt`: only if it is still that one. Idempotent. */
export async function deleteRestoreMount(catalog: Catalog, mountId: string, startedAt?: Date): Promise<void> {
  await catalog
    .deleteFrom('restore_mounts')
    .where('id', '=', mountId)
    .$if(startedAt !== undefined, (query) => query.where('created_at', '=', startedAt!))
    .execute()
}

async function updateUnlessEnding(catalog: Catalog, mountId: string, change: Updateable<RestoreMountsTable>): Promise<boolean> {
  await catalog.updateTable('restore_mounts').set(change).where('id', '=', mountId).where('status', '!=', 'unmounting').execute()
  // The driver counts rows that changed, not rows that matched: what the row says now is the answer.
  const row = await findRestoreMount(catalog, mountId)
  return row !== undefined && row.status !== 'unmounting'
}

async function diskIdOf(catalog: Catalog, { backupId, diskIndex }: NewRestoreMount): Promise<number> {
  const disks = await catalog
    .selectFrom('backup_disks')
    .select(['id', 'disk_index'])
    .where('backup_job_id', '=', backupId)
    .orderBy('disk_index')
    .execute()
  const disk = disks.find((candidate) => candidate.disk_index === diskIndex)
  if (disk) return disk.id
  const indexes = disks.map((candidate) => candidate.disk_index)
  throw new HoldfastError('DISK_NOT_FOUND', `Backup ${backupId} has no disk ${diskIndex}; it has ${indexes.join(', ')}.`, {
    details: { backup_id: backupId, disk_index: diskIndex, disk_indexes: indexes },
  })
}

/** At least one: a lease of less than a second is one that a test asks for. */
function wholeSeconds(milliseconds: number): number {
  return Math.max(1, Math.round(milliseconds / 1000))
}
