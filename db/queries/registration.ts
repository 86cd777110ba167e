/** Recording VMs that a mover has looked at, and what it saw of repositories. */
import type { Transaction } from 'kysely'
import { HoldfastError } from '../../domain/errors.ts'
import type { JsonObject } from '../../domain/errors.ts'
import type { SourceType } from '../../domain/backup.ts'
import type { Catalog } from '../client.ts'
import type { Database } from '../schema.ts'
import { findVmContext } from './vm-contexts.ts'
import type { VmDisk } from './vm-contexts.ts'

export interface NewVm {
  contextId: string
  vmName: string
  sourceType: SourceType
  hostId: string
  config: JsonObject
  powerState: 'on' | 'off' | 'unknown'
  cpuCount: number | null
  memoryMb: number | null
  osType: string | null
  disks: { index: number; key: string; label: string; format: string; path?: string; sizeBytes: number }[]
}

/** Records the VM with its disks. `VM_EXISTS` when its source on that host already has a VM of this name. Idempotent by context id. */
export async function insertVm(catalog: Catalog, vm: NewVm): Promise<void> {
  if (await findVmContext(catalog, vm.contextId)) return
  await catalog.transaction().execute(async (transaction) => {
    // The locking read keeps two registrations of one name apart although no unique key could: other sources may use the name too.
    const namesake = await transaction
      .selectFrom('vm_contexts')
      .select('context_id')
      .where('vm_name', '=', vm.vmName)
      .where('source_type', '=', vm.sourceType)
      .where('host_id', '=', vm.hostId)
      .forUpdate()
      .executeTakeFirst()
    if (namesake) throw vmExists(vm, namesake.context_id)
    await transaction
      .insertInto('vm_contexts')
      .values({
        context_id: vm.contextId,
        vm_name: vm.vmName,
        source_type: vm.sourceType,
        config: JSON.stringify(vm.config),
        host_id: vm.hostId,
        power_state: vm.powerState,
        cpu_count: vm.cpuCount,
        memory_mb: vm.memoryMb,
        os_type: vm.osType,
        source_id: null,
        external_id: null,
        last_seen_at: null,
        restored_in_place_at: null,
      })
      .execute()
    await insertVmDisks(transaction, vm.contextId, vm.disks)
  })
}

/** What a look at a VM found. */
export type SeenVm = Pick<NewVm, 'powerState' | 'cpuCount' | 'memoryMb' | 'osType' | 'disks'>

/** Brings what the catalog shows of a VM up to what its source showed. Does nothing when the VM is gone. */
export async function updateVm(catalog: Catalog, contextId: string, seen: SeenVm): Promise<void> {
  const { powerState, cpuCount, memoryMb, osType, disks } = seen
  await catalog.transaction().execute(async (transaction) => {
    const found = await transaction
      .updateTable('vm_contexts')
      .set({
        power_state: powerState,
        cpu_count: cpuCount,
        memory_mb: memoryMb,
        os_type: osType,
        current_status: 'ready',
        last_seen_at: new Date(),
      })
      .where('context_id', '=', contextId)
      .executeTakeFirst()
    if (found.numUpdatedRows === 0n) return
    await replaceVmDisks(transaction, contextId, disks)
  })
}

/** A VM whose disks could not be looked at may have none. */
export async function insertVmDisks(transaction: Transaction<Database>, contextId: string, disks: NewVm['disks']): Promise<void> {
  if (disks.length === 0) return
  await transaction
    .insertInto('vm_disks')
    .values(disks.map((disk) => vmDiskRow(contextId, disk)))
    .execute()
}

export async function replaceVmDisks(
  transaction: Transaction<Database>,
  contextId: string,
  disks: NewVm['disks'],
): Promise<void> {
  await transaction.deleteFrom('vm_disks').where('vm_context_id', '=', contextId).execute()
  await insertVmDisks(transaction, contextId, disks)
}

/** Ids of every repository that the mover of this host serves. */
export async function repositoryIdsOfHost(catalog: Catalog, hostId: string): Promise<string[]> {
  const rows = await catalog.selectFrom('backup_repositories').select('id').where('host_id', '=', hostId).execute()
  return rows.map((row) => row.id)
}

/** A disk as the catalog keeps it. */
export function vmDiskRow(contextId: string, disk: NewVm['disks'][number]): VmDisk {
  return {
    vm_context_id: contextId,
    disk_index: disk.index,
    disk_key: disk.key,
    label: disk.label,
    format: disk.format,
    path: disk.path ?? null,
    size_bytes: disk.sizeBytes,
  }
}

function vmExists(vm: NewVm, contextId: string): HoldfastError {
  return new HoldfastError('VM_EXISTS', `A VM named "${vm.vmName}" is already registered from this source.`, {
    details: { vm_name: vm.vmName, vm_context_id: contextId },
  })
}
