/** Restore mounts: opening a disk of a backup for reading its files, and the lease of that. */
import { z } from '@hono/zod-openapi'
import { driverNames, mountStates } from '../../domain/restore-mount.ts'
import { id, pageFields, pageQuery, sizeBytes, success, time } from './fields.ts'

/** As it stands in paths below /restore, and below /restore/mounts. */
export const mountParameter = z.strictObject({ mount_id: id.openapi({ param: { name: 'mount_id', in: 'path' } }) })

export const openMountRequest = z
  .strictObject({
    backup_id: id,
    disk_index: z.int().min(0).max(1023).default(0),
  })
  .openapi('OpenMountRequest')

const mountFields = {
  mount_id: z.string().openapi({ description: 'UUID; the same disk of the same backup always has the same' }),
  backup_id: z.string(),
  backup_disk_id: z.int(),
  disk_index: z.int(),
  mount_path: z.string().openapi({ description: "On the mover's host; empty until it is mounted" }),
  nbd_device: z.string().openapi({ description: 'The exported file or block device in use; empty until it is mounted' }),
  filesystem_type: z.string().openapi({ description: 'Of the volumes that can be read, joined by ", "' }),
  status: z.enum(mountStates).openapi({ description: '`mounting` also while it is being opened again after a crash' }),
  created_at: time,
  expires_at: time.openapi({ description: 'Unless somebody reads from it or extends it before' }),
  remaining_seconds: z.int().min(0),
  last_access_at: time.openapi({ description: 'When somebody last read from it or extended it, to a few seconds' }),
  vm_name: z.string(),
  disk_label: z.string(),
  host_id: z.string(),
  driver: z.enum(driverNames).nullable(),
  volume_count: z.int().min(0).openapi({ description: 'Of those that can be read' }),
}

export const restoreMount = z.strictObject(mountFields).openapi('RestoreMount')

export const restoreMountAnswer = z.strictObject({ success, ...mountFields }).openapi('RestoreMountAnswer')

export const restoreMountListQuery = z.strictObject(pageQuery)

export const restoreMountListAnswer = z
  .strictObject({ success, mounts: z.array(restoreMount), ...pageFields })
  .openapi('RestoreMountList')

export const extendMountAnswer = z
  .strictObject({
    success,
    mount_id: z.string(),
    expires_at: time,
    remaining_seconds: z.int().min(0),
    message: z.string(),
  })
  .openapi('ExtendMountAnswer')

export const releaseMountAnswer = z
  .strictObject({ success, message: z.literal('backup unmounted successfully'), mount_id: z.string() })
  .openapi('ReleaseMountAnswer')

const volume = z
  .strictObject({
    id: z.string().openapi({ description: 'The first name of paths on it, when more than one volume can be read' }),
    path: z.string().nullable().openapi({ description: 'Where its files begin; null when it cannot be read' }),
    state: z.enum(['readable', 'encrypted', 'swap', 'member', 'damaged', 'unknown']),
    filesystem_type: z.string().openapi({ description: 'As blkid names it; empty when unknown' }),
    label: z.string(),
    uuid: z.string(),
    size_bytes: sizeBytes,
    note: z.string().openapi({ description: 'What there is to know: why it cannot be read, or what may be missing' }),
  })
  .openapi('MountVolume')

export const volumeListAnswer = z
  .strictObject({ success, mount_id: z.string(), volumes: z.array(volume), count: z.int().min(0), total_count: z.int().min(0) })
  .openapi('MountVolumeList')
