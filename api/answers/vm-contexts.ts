/** VM contexts as the API shows them. */
import type { z } from '@hono/zod-openapi'
import type { VmContext, VmContextSummary, VmDisk } from '../../db/queries/vm-contexts.ts'
import type { JsonObject, JsonValue } from '../../domain/errors.ts'
import type { SourceDisk } from '../../sources/source.ts'
import type { vmContext, vmDisk } from '../schemas/vm-contexts.ts'
import { gigabytes, timeOrNull } from './units.ts'

type VmContextAnswer = z.infer<typeof vmContext>
type VmDiskAnswer = z.infer<typeof vmDisk>

const powerStates = { on: 'poweredOn', off: 'poweredOff', unknown: 'unknown' } as const

const nothing: VmContextSummary = { diskCount: 0, totalSizeBytes: 0, completedBackups: 0, lastBackupAt: null }

/** `sourceName`: of the connection that it was found through. */
export function vmContextAnswer(vm: VmContext, sourceName: string | null, summary: VmContextSummary = nothing): VmContextAnswer {
  return {
    context_id: vm.context_id,
    vm_context_id: vm.context_id,
    vm_name: vm.vm_name,
    // vSphere's own places; other sources have none.
    vm_path: null,
    vcenter_host: null,
    datacenter: null,
    source_type: vm.source_type,
    host_id: vm.host_id,
    source_id: vm.source_id,
    source_name: sourceName,
    external_id: vm.external_id,
    current_status: vm.current_status,
    status: vm.current_status,
    last_seen_at: timeOrNull(vm.last_seen_at),
    excluded_disks: excludedDisksOf(vm),
    cpu_count: vm.cpu_count,
    memory_mb: vm.memory_mb,
    os_type: vm.os_type,
    power_state: powerStates[vm.power_state],
    disk_count: summary.diskCount,
    total_size_bytes: summary.totalSizeBytes,
    total_size_gb: gigabytes(summary.totalSizeBytes),
    backup_count: summary.completedBackups,
    has_backups: summary.completedBackups > 0,
    last_backup_at: timeOrNull(summary.lastBackupAt),
    created_at: vm.created_at.toISOString(),
    updated_at: vm.updated_at.toISOString(),
  }
}

/** Keys of the disks that backups leave out. */
export function excludedDisksOf({ config }: VmContext): string[] {
  const { excluded_disks: keys } = config
  return Array.isArray(keys) ? keys.filter((key) => typeof key === 'string') : []
}

export function vmDiskAnswer(disk: VmDisk, vm: VmContext): VmDiskAnswer {
  return diskAnswer(
    { index: disk.disk_index, key: disk.disk_key, label: disk.label, format: disk.format, sizeBytes: disk.size_bytes },
    placeOf(disk, vm.config),
  )
}

/** A disk that a registration has just found. */
export function foundDiskAnswer(disk: SourceDisk, config: JsonObject): VmDiskAnswer {
  return diskAnswer(disk, disk.path ?? placeAt(config, disk.index) ?? disk.key)
}

function diskAnswer(disk: Omit<SourceDisk, 'dataBytes'>, place: string): VmDiskAnswer {
  return {
    disk_id: disk.index,
    disk_index: disk.index,
    disk_key: disk.key,
    vmware_disk_key: null,
    label: disk.label,
    format: disk.format,
    size_bytes: disk.sizeBytes,
    size_gb: gigabytes(disk.sizeBytes),
    datastore: null,
    path: place,
  }
}

/** Where a disk lies: as its source said, or as it was registered. Without an entry of its own in the configuration, the key is the place. */
function placeOf(disk: VmDisk, config: JsonObject): string {
  return disk.path ?? placeAt(config, disk.disk_index) ?? disk.disk_key
}

function placeAt(config: JsonObject, index: number): string | undefined {
  const { disks } = config
  if (!Array.isArray(disks)) return undefined
  return textOf(disks[index], 'path') ?? textOf(disks[index], 'uri')
}

function textOf(value: JsonValue | undefined, field: string): string | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const text = value[field]
  return typeof text === 'string' ? text : undefined
}
