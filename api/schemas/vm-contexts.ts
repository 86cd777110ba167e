/** VMs that Holdfast knows. */
import { z } from '@hono/zod-openapi'
import { absolutePath, hostId, id, name, pageFields, pageQuery, sizeBytes, sizeGb, success, time } from './fields.ts'

const vmStatus = z
  .enum(['ready', 'vanished'])
  .openapi({ description: '`vanished`: the last discovery of its source did not find it' })

export const sourceType = z.enum(['disk-image', 'libvirt', 'vsphere'])

/** A VM by its context id or by its name; names may hold anything a person types. */
export const vmParameter = z.strictObject({
  vm: z
    .string()
    .min(1)
    .max(255)
    .openapi({ param: { name: 'vm', in: 'path' }, description: 'Context id, or name' }),
})

export const vmListQuery = z.strictObject({
  ...pageQuery,
  vm_name: name.optional().openapi({ description: 'The whole name' }),
  search: z.string().min(1).max(255).optional().openapi({ description: 'Part of the name, any case' }),
  source_type: sourceType.optional(),
  host_id: hostId.optional(),
  source_id: id.optional(),
  status: vmStatus.optional(),
})

/** No password in a URI: it would end in catalogs, histories and manifests. */
const nbdUri = z
  .string()
  .max(700)
  .regex(/^nbds?(\+unix)?:\/\/[\x21-\x7e]*$/, 'give an nbd://, nbds:// or nbd+unix:// URI')
  .refine((uri) => !/^[^/]*\/\/[^/?]*:[^/?]*@/.test(uri), 'a URI must not hold a password')

const imageFormat = z
  .enum(['raw', 'qcow2', 'vmdk', 'vhdx'])
  .optional()
  .openapi({ description: 'When absent: what the name ends in (.raw, .img, .qcow2, .vmdk, .vhdx)' })

const registeredDisk = z.union([
  z.strictObject({ path: absolutePath, format: imageFormat, label: name.optional() }),
  z.strictObject({ uri: nbdUri, format: z.literal('raw').optional(), label: name.optional() }),
])

export const registerVmRequest = z
  .strictObject({
    vm_name: name,
    source_type: sourceType,
    host_id: hostId.optional().openapi({ description: 'The mover that reaches the disks; this host when absent' }),
    disks: z
      .array(registeredDisk)
      .min(1)
      .max(64)
      .refine((disks) => new Set(disks.map(diskKey)).size === disks.length, 'the same disk stands twice'),
  })
  .openapi('RegisterVmRequest')

export function diskKey(disk: z.infer<typeof registeredDisk>): string {
  return 'path' in disk ? disk.path : disk.uri
}

export const vmContext = z
  .strictObject({
    context_id: z.string(),
    vm_context_id: z.string(),
    vm_name: z.string(),
    vm_path: z.string().nullable(),
    vcenter_host: z.string().nullable(),
    datacenter: z.string().nullable(),
    source_type: sourceType,
    host_id: z.string(),
    source_id: z
      .string()
      .nullable()
      .openapi({ description: 'The connection it was found through; null when registered by hand' }),
    source_name: z.string().nullable(),
    external_id: z.string().nullable().openapi({ description: "The platform's own id; of libvirt the UUID" }),
    current_status: vmStatus,
    status: vmStatus,
    last_seen_at: time.nullable(),
    excluded_disks: z.array(z.string()).openapi({ description: 'Keys of disks that backups leave out' }),
    cpu_count: z.int().nullable(),
    memory_mb: z.int().nullable(),
    os_type: z.string().nullable(),
    power_state: z.enum(['poweredOn', 'poweredOff', 'unknown']),
    disk_count: z.int(),
    total_size_bytes: sizeBytes,
    total_size_gb: sizeGb,
    backup_count: z.int().openapi({ description: 'Completed backups' }),
    has_backups: z.boolean(),
    last_backup_at: time.nullable(),
    created_at: time,
    updated_at: time,
  })
  .openapi('VmContext')

export const vmDisk = z
  .strictObject({
    disk_id: z.int(),
    disk_index: z.int(),
    disk_key: z.string(),
    vmware_disk_key: z.int().nullable(),
    label: z.string(),
    format: z.string(),
    size_bytes: sizeBytes,
    size_gb: sizeGb,
    datastore: z.string().nullable(),
    path: z.string(),
  })
  .openapi('VmDisk')

const vmDisks = { disks: z.array(vmDisk), total_disks: z.int() }

export const changeVmRequest = z
  .strictObject({
    excluded_disks: z
      .array(z.string().min(1).max(700))
      .max(64)
      .refine((keys) => new Set(keys).size === keys.length, 'the same disk stands twice')
      .openapi({ description: 'Keys of all disks to leave out from now on; libvirt: targets', example: ['vdb'] }),
  })
  .openapi('ChangeVmRequest')

export const vmListAnswer = z.strictObject({ success, vm_contexts: z.array(vmContext), ...pageFields }).openapi('VmContextList')

export const vmAnswer = z.strictObject({ success, vm_context: vmContext, ...vmDisks }).openapi('VmContextAnswer')

export const vmDisksAnswer = z
  .strictObject({ success, context_id: z.string(), vm_name: z.string(), ...vmDisks })
  .openapi('VmDisksAnswer')

export const registerVmAnswer = z
  .strictObject({
    success,
    context_id: z.string(),
    vm_context_id: z.string(),
    vm_name: z.string(),
    message: z.string(),
    ...vmDisks,
  })
  .openapi('RegisterVmAnswer')
