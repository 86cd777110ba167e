/** Bringing the VM contexts of a source to what its platform has. */
import type { Selectable, Transaction } from 'kysely'
import { HoldfastError } from '../../domain/errors.ts'
import type { JsonObject } from '../../domain/errors.ts'
import type { Catalog } from '../client.ts'
import type { Database, VmContextsTable, VmDisksTable } from '../schema.ts'
import { insertVmDisks, replaceVmDisks, vmDiskRow } from './registration.ts'
import type { SeenVm } from './registration.ts'
import { sourceNotFound } from './sources.ts'
import type { SourceRow } from './sources.ts'

/** A VM that the platform has. */
export interface FoundVm {
  /** For the context of a VM that was not known. */
  newContextId: string
  externalId: string
  name: string
  config: JsonObject
  /** `null`: it is there, but could not be described. */
  seen: SeenVm | null
}

export interface DiscoveryCounts {
  added: number
  /** Known before, and something about it is new, coming back included. */
  updated: number
  vanished: number
}

type VmRow = Selectable<VmContextsTable>
type DiskRow = Selectable<VmDisksTable>
type Columns = Pick<
  VmRow,
  'vm_name' | 'config' | 'host_id' | 'current_status' | 'power_state' | 'cpu_count' | 'memory_mb' | 'os_type'
>

/**
 * Records a complete listing of the source's platform, as one transaction: contexts keep their ids, what is not listed is marked as vanished, and
 * nothing is deleted. A VM that was not known and cannot be described is not recorded. `source`: as it was when the listing began; `SOURCE_BUSY` when it
 * has other settings now, because then the listing may be that of another platform. `SOURCE_CONNECTION_NOT_FOUND`. Idempotent.
 */
export async function recordDiscovery(catalog: Catalog, source: SourceRow, found: readonly FoundVm[]): Promise<DiscoveryCounts> {
  return catalog.transaction().execute(async (transaction) => {
    await lockUnchanged(transaction, source)
    const known = await transaction.selectFrom('vm_contexts').selectAll().where('source_id', '=', source.id).forUpdate().execute()
    const knownByExternalId = new Map(known.map((vm) => [vm.external_id, vm]))
    const disks = await disksByVm(transaction, source.id)
    const now = new Date()
    const counts: DiscoveryCounts = { added: 0, updated: 0, vanished: 0 }
    for (const vm of found) {
      const row = knownByExternalId.get(vm.externalId)
      if (!row && vm.seen === null) continue
      if (!row) {
        await add(transaction, source, vm, now)
        counts.added += 1
      } else if (await update(transaction, source, vm, row, disks.get(row.context_id) ?? [], now)) counts.updated += 1
    }
    const listed = new Set(found.map((vm) => vm.externalId))
    const gone = known.filter((vm) => vm.current_status !== 'vanished' && !listed.has(vm.external_id ?? ''))
    await markVanished(transaction, gone)
    counts.vanished = gone.length
    await transaction
      .updateTable('sources')
      .set({ status: 'reachable', error_code: null, error_message: null, last_discovered_at: now })
      .where('id', '=', source.id)
      .execute()
    return counts
  })
}

async function lockUnchanged(transaction: Transaction<Database>, source: SourceRow): Promise<void> {
  const now = await transaction
    .selectFrom('sources')
    .select(['config', 'credentials_id'])
    .where('id', '=', source.id)
    .forUpdate()
    .executeTakeFirst()
  if (!now) throw sourceNotFound(source.id)
  if (now.credentials_id === source.credentials_id && sameValue(now.config, source.config)) return
  throw new HoldfastError(
    'SOURCE_BUSY',
    `Source "${source.name}" was changed while its VMs were looked for: discover them again.`,
    {
      details: { source_id: source.id },
    },
  )
}

async function disksByVm(transaction: Transaction<Database>, sourceId: string): Promise<Map<string, DiskRow[]>> {
  const rows = await transaction
    .selectFrom('vm_disks')
    .innerJoin('vm_contexts', 'vm_contexts.context_id', 'vm_disks.vm_context_id')
    .selectAll('vm_disks')
    .where('vm_contexts.source_id', '=', sourceId)
    .orderBy('vm_disks.disk_index')
    .execute()
  return Map.groupBy(rows, (row) => row.vm_context_id)
}

async function add(transaction: Transaction<Database>, source: SourceRow, vm: FoundVm, now: Date): Promise<void> {
  const { config, ...columns } = columnsOf(source, vm, undefined)
  await transaction
    .insertInto('vm_contexts')
    .values({
      context_id: vm.newContextId,
      source_type: source.source_type,
      source_id: source.id,
      external_id: vm.externalId,
      last_seen_at: now,
      restored_in_place_at: null,
      config: JSON.stringify(config),
      ...columns,
    })
    .execute()
  await insertVmDisks(transaction, vm.newContextId, vm.seen?.disks ?? [])
}

/** Whether anything but the time was new. */
async function update(
  transaction: Transaction<Database>,
  source: SourceRow,
  vm: FoundVm,
  row: VmRow,
  disks: DiskRow[],
  now: Date,
): Promise<boolean> {
  const columns = columnsOf(source, vm, row)
  const { config, ...others } = columns
  const newDisks = vm.seen?.disks.map((disk) => vmDiskRow(row.context_id, disk))
  const disksDiffer = newDisks !== undefined && !sameValue(newDisks, disks)
  const differs = disksDiffer || Object.entries(columns).some(([name, value]) => !sameValue(value, Reflect.get(row, name)))
  await transaction
    .updateTable('vm_contexts')
    .set(differs ? { ...others, config: JSON.stringify(config), last_seen_at: now } : { last_seen_at: now })
    .where('context_id', '=', row.context_id)
    .execute()
  if (disksDiffer) await replaceVmDisks(transaction, row.context_id, vm.seen?.disks ?? [])
  return differs
}

/** What a person set in the VM's configuration stays; what the platform says of it is replaced. */
function columnsOf(source: SourceRow, vm: FoundVm, row: VmRow | undefined): Columns {
  return {
    vm_name: vm.name,
    config: { ...row?.config, ...vm.config },
    host_id: source.host_id,
    current_status: 'ready',
    power_state: vm.seen?.powerState ?? row?.power_state ?? 'unknown',
    cpu_count: vm.seen ? vm.seen.cpuCount : (row?.cpu_count ?? null),
    memory_mb: vm.seen ? vm.seen.memoryMb : (row?.memory_mb ?? null),
    os_type: vm.seen ? vm.seen.osType : (row?.os_type ?? null),
  }
}

async function markVanished(transaction: Transaction<Database>, vms: readonly VmRow[]): Promise<void> {
  if (vms.length === 0) return
  await transaction
    .updateTable('vm_contexts')
    .set({ current_status: 'vanished' })
    .where(
      'context_id',
      'in',
      vms.map((vm) => vm.context_id),
    )
    .execute()
}

/** JSON from the catalog has its keys in an order of its own. */
function sameValue(one: unknown, other: unknown): boolean {
  return canonical(one) === canonical(other)
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([one], [other]) => (one < other ? -1 : 1)))
      : part,
  )
}
