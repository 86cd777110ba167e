/** Restore mounts as the API shows them. */
import type { z } from '@hono/zod-openapi'
import type { DiskNames } from '../../db/queries/mounted-disks.ts'
import { mountExpiry } from '../../db/queries/restore-mounts.ts'
import type { RestoreMountRow } from '../../db/queries/restore-mounts.ts'
import type { restoreMount, volumeListAnswer } from '../schemas/restore-mounts.ts'

/** `disk`: `undefined` when its backup is gone by now. */
export function mountAnswer(row: RestoreMountRow, disk: DiskNames | undefined, now: Date): z.infer<typeof restoreMount> {
  const expiresAt = mountExpiry(row)
  return {
    mount_id: row.id,
    backup_id: row.backup_id,
    backup_disk_id: row.backup_disk_id,
    disk_index: row.disk_index,
    mount_path: row.mount_path,
    nbd_device: row.nbd_device,
    filesystem_type: row.filesystem_type,
    status: row.status,
    created_at: row.created_at.toISOString(),
    expires_at: expiresAt.toISOString(),
    remaining_seconds: secondsUntil(expiresAt, now),
    last_access_at: row.last_access_at.toISOString(),
    vm_name: disk?.vmName ?? '',
    disk_label: disk?.label ?? '',
    host_id: row.host_id,
    driver: row.driver,
    volume_count: readableVolumes(row).length,
  }
}

/** Whole seconds, none when it is past. */
export function secondsUntil(time: Date, now: Date): number {
  return Math.max(0, Math.floor((time.getTime() - now.getTime()) / 1000))
}

/** With one volume that can be read its root is the root of the mount; with several each is a folder there. */
export function volumesAnswer(row: RestoreMountRow): z.infer<typeof volumeListAnswer> {
  const several = readableVolumes(row).length > 1
  const pathOf = (id: string): string => (several ? `/${id}` : '/')
  const volumes = row.volumes.map(({ id, state, fileSystem, label, uuid, sizeBytes, note }) => ({
    id,
    path: state === 'readable' ? pathOf(id) : null,
    state,
    filesystem_type: fileSystem,
    label,
    uuid,
    size_bytes: sizeBytes,
    note,
  }))
  return { success: true, mount_id: row.id, volumes, count: volumes.length, total_count: volumes.length }
}

function readableVolumes(row: RestoreMountRow): RestoreMountRow['volumes'] {
  return row.volumes.filter((volume) => volume.state === 'readable')
}
