/** Restoring a disk of a backup to a file, or its disks to a VM. */
import { z } from '@hono/zod-openapi'
import { backupState } from './backups.ts'
import { errorCodeOrNull, id, name, pageFields, pageQuery, percentage, sizeBytes, success, time } from './fields.ts'

export const restoreParameter = z.strictObject({ id: id.openapi({ param: { name: 'id', in: 'path' } }) })

const startDiskRestoreRequest = z
  .strictObject({
    disk_index: z.int().min(0).max(1023),
    target_path: z.string().min(1).max(4096).openapi({ description: 'A new file on the data host, outside every repository' }),
    format: z.enum(['raw', 'qcow2']).default('raw'),
  })
  .openapi('StartDiskRestoreRequest')

/** As libvirt takes it; long names would not fit into the names of its files. */
const newVmName = z
  .string()
  .min(1)
  .max(200)
  .regex(
    /^[^/\p{Cc}\p{Cs}]*[^/\p{Cc}\p{Cs}\s][^/\p{Cc}\p{Cs}]*$/u,
    'a VM name has no slash and no control characters, and is not blank',
  )
  .refine((text) => Buffer.byteLength(text) <= 200, 'a VM name has at most 200 bytes')

const startNewVmRestoreRequest = z
  .strictObject({
    target: z.literal('libvirt'),
    source_id: id.openapi({ description: 'The connection to the hypervisor that gets the VM' }),
    vm_name: newVmName.openapi({ description: 'Of the new VM' }),
    disk_folder: z.string().min(1).max(3072).openapi({ description: 'A folder on the data host, outside every repository' }),
    connect_network: z
      .boolean()
      .default(false)
      .openapi({ description: 'When false, the network cards have their cables pulled' }),
    disks: z
      .array(z.int().min(0).max(1023))
      .min(1)
      .max(1024)
      .refine((indexes) => new Set(indexes).size === indexes.length, 'the same disk stands twice')
      .optional()
      .openapi({ description: 'Indexes; all when absent' }),
    start: z.boolean().default(false),
  })
  .openapi('StartNewVmRestoreRequest')

const startOriginalRestoreRequest = z
  .strictObject({
    target: z.literal('original'),
    confirm: z.string().max(255).optional().openapi({ description: "The VM's exact name: its disks are overwritten" }),
  })
  .openapi('StartOriginalRestoreRequest')

export const startRestoreRequest = z
  .union([startDiskRestoreRequest, startNewVmRestoreRequest, startOriginalRestoreRequest])
  .openapi('StartRestoreRequest')

const started = {
  restore_id: z.string(),
  backup_id: z.string(),
  status: z.literal('started'),
  created_at: time,
  message: z.string(),
}

export const startRestoreAnswer = z
  .union([
    z
      .strictObject({
        success,
        ...started,
        disk_index: z.int(),
        target_path: z.string(),
        format: z.enum(['raw', 'qcow2']),
      })
      .openapi('StartDiskRestoreAnswer'),
    z
      .strictObject({
        success,
        ...started,
        target: z.enum(['libvirt', 'original']),
        source_id: z.string(),
        vm_name: z.string().openapi({ description: 'Of the VM that is made or overwritten' }),
      })
      .openapi('StartVmRestoreAnswer'),
  ])
  .openapi('StartRestoreAnswer')

export const restoreListQuery = z.strictObject({
  ...pageQuery,
  backup_id: id.optional(),
  vm_name: name.optional(),
  status: backupState.optional(),
})

const progressFields = {
  status: backupState,
  total_bytes: sizeBytes,
  processed_bytes: sizeBytes,
  progress_percent: percentage,
  progress_percentage: percentage,
  rate_bytes_per_second: sizeBytes,
  eta_seconds: z.int().nullable(),
  resumed_at_bytes: sizeBytes,
}

const targetFile = { disk_index: z.int(), target_path: z.string(), format: z.enum(['raw', 'qcow2']) }

const commonFields = {
  id: z.string(),
  restore_id: z.string(),
  backup_id: z.string(),
  vm_name: z.string(),
  ...progressFields,
  error_code: errorCodeOrNull,
  error_message: z.string().nullable(),
  created_at: time,
  started_at: time.nullable(),
  completed_at: time.nullable(),
}

const diskRestoreFields = { ...commonFields, ...targetFile }

const vmRestoreFields = {
  ...commonFields,
  target: z.enum(['libvirt', 'original']),
  source_id: z.string(),
  target_vm_name: z
    .string()
    .openapi({ description: 'Of the VM that is made or overwritten; `vm_name` is the one that was backed up' }),
  external_id: z.string().nullable().openapi({ description: "The platform's id (libvirt: UUID) of the VM, once it is there" }),
  disk_folder: z.string().nullable(),
  connect_network: z.boolean().nullable(),
  start: z.boolean().nullable(),
  warnings: z.array(z.string()).openapi({ description: 'What the VM has not got, or has in another form' }),
  disks: z.array(z.strictObject({ ...targetFile, ...progressFields }).openapi('VmRestoreDisk')),
}

export const diskRestore = z.strictObject(diskRestoreFields).openapi('Restore')
export const vmRestore = z.strictObject(vmRestoreFields).openapi('VmRestore')

/** Of a disk, or of a VM: `disks` tells them apart. */
const restore = z.union([diskRestore, vmRestore])

export const restoreListAnswer = z.strictObject({ success, restores: z.array(restore), ...pageFields }).openapi('RestoreList')

/** In the same two forms as a backup: at the top, and under `restore`. */
export const restoreAnswer = z
  .union([
    z.strictObject({ success, ...diskRestoreFields, restore: diskRestore }).openapi('DiskRestoreAnswer'),
    z.strictObject({ success, ...vmRestoreFields, restore: vmRestore }).openapi('VmRestoreAnswer'),
  ])
  .openapi('RestoreAnswer')

export const cancelRestoreAnswer = z
  .strictObject({ success, restore_id: z.string(), status: z.literal('cancelling'), message: z.string() })
  .openapi('CancelRestoreAnswer')
