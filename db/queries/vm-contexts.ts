/** Reading VM contexts and their disks. */
import { sql } from 'kysely'
import type { Selectable } from 'kysely'
import type { SourceType } from '../../domain/backup.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { Catalog } from '../client.ts'
import type { VmContextsTable, VmDisksTable } from '../schema.ts'
import { pageByName } from './page.ts'
import type { ByName, Page } from './page.ts'
import { containing } from './patterns.ts'

export type VmContext = Selectable<VmContextsTable>
export type VmDisk = Selectable<VmDisksTable>

export interface VmContextFilter {
  /** The whole name. */
  vmName?: string | undefined
  /** Part of the name, any case. */
  search?: string | undefined
  sourceType?: SourceType | undefined
  hostId?: string | undefined
  sourceId?: string | undefined
  status?: VmContext['current_status'] | undefined
}

export interface VmContextSummary {
  diskCount: number
  totalSizeBytes: number
  completedBackups: number
  lastBackupAt: Date | null
}

/** Name order, then id. */
export async function listVmContexts(catalog: Catalog, filter: VmContextFilter, page: Page<ByName>): Promise<VmContext[]> {
  return pageByName(filtered(catalog, filter).selectAll(), { name: 'vm_name', id: 'context_id' }, page).execute()
}

export async function countVmContexts(catalog: Catalog, filter: VmContextFilter): Promise<number> {
  const row = await filtered(catalog, filter)
    .select((row) => row.fn.countAll<number>().as('total'))
    .executeTakeFirstOrThrow()
  return row.total
}

export async function findVmContext(catalog: Catalog, contextId: string): Promise<VmContext | undefined> {
  return catalog.selectFrom('vm_contexts').selectAll().where('context_id', '=', contextId).executeTakeFirst()
}

export async function findVmContextsOfSource(catalog: Catalog, sourceId: string): Promise<VmContext[]> {
  return catalog.selectFrom('vm_contexts').selectAll().where('source_id', '=', sourceId).execute()
}

/** Every VM of this name, oldest first: two sources may each have one. At most `limit`. */
export async function findVmContextsByName(catalog: Catalog, vmName: string, limit = 20): Promise<VmContext[]> {
  return catalog
    .selectFrom('vm_contexts')
    .selectAll()
    .where('vm_name', '=', vmName)
    .orderBy('created_at')
    .orderBy('context_id')
    .limit(limit)
    .execute()
}

/** `SOURCE_NOT_FOUND` for a VM that the last discovery of its source did not find: there is nothing to back up. */
export function requirePresent(vm: VmContext): void {
  if (vm.current_status !== 'vanished') return
  const lastSeenAt = vm.last_seen_at?.toISOString() ?? null
  throw new HoldfastError(
    'SOURCE_NOT_FOUND',
    `VM "${vm.vm_name}" has vanished from its source (last seen ${lastSeenAt ?? 'never'}). If it is back, discover the source's VMs again; its backups can be restored either way.`,
    {
      details: {
        vm_context_id: vm.context_id,
        source_id: vm.source_id,
        current_status: vm.current_status,
        last_seen_at: lastSeenAt,
      },
    },
  )
}

export async function disksOfVm(catalog: Catalog, contextId: string): Promise<VmDisk[]> {
  return catalog.selectFrom('vm_disks').selectAll().where('vm_context_id', '=', contextId).orderBy('disk_index').execute()
}

/**
 * Leaves disks out of the VM's backups from now on, by key. The row is locked while `check` looks at it and at its disks' keys; what it throws
 * leaves everything as it was. Newly excluded disks leave the list at once; others come back when the VM is looked at again. Nothing when the VM is gone.
 */
export async function excludeDisks(
  catalog: Catalog,
  contextId: string,
  excluded: readonly string[],
  check: (vm: VmContext, diskKeys: string[]) => void,
): Promise<void> {
  await catalog.transaction().execute(async (transaction) => {
    const vm = await transaction
      .selectFrom('vm_contexts')
      .selectAll()
      .where('context_id', '=', contextId)
      .forUpdate()
      .executeTakeFirst()
    if (!vm) return
    const disks = await disksOfVm(transaction, contextId)
    check(
      vm,
      disks.map((disk) => disk.disk_key),
    )
    const config = JSON.stringify({ ...vm.config, excluded_disks: [...excluded] })
    await transaction.updateTable('vm_contexts').set({ config }).where('context_id', '=', contextId).execute()
    if (excluded.length === 0) return
    await transaction.deleteFrom('vm_disks').where('vm_context_id', '=', contextId).where('disk_key', 'in', excluded).execute()
  })
}

/** Disks and backups of many VMs in two queries, by context id; a VM with neither is absent. */
export async function summarizeVmContexts(
  catalog: Catalog,
  contextIds: readonly string[],
): Promise<Map<string, VmContextSummary>> {
  if (contextIds.length === 0) return new Map()
  const [disks, backups] = await Promise.all([
    catalog
      .selectFrom('vm_disks')
      .select((row) => ['vm_context_id', row.fn.countAll<number>().as('disks'), row.fn.sum<number>('size_bytes').as('size')])
      .where('vm_context_id', 'in', contextIds)
      .groupBy('vm_context_id')
      .execute(),
    catalog
      .selectFrom('backup_jobs')
      .select((row) => ['vm_context_id', row.fn.countAll<number>().as('backups'), row.fn.max('created_at').as('last')])
      .where('vm_context_id', 'in', contextIds)
      .where('status', '=', 'completed')
      .groupBy('vm_context_id')
      .execute(),
  ])
  const summaries = new Map<string, VmContextSummary>()
  const of = (contextId: string): VmContextSummary => {
    const summary = summaries.get(contextId) ?? { diskCount: 0, totalSizeBytes: 0, completedBackups: 0, lastBackupAt: null }
    summaries.set(contextId, summary)
    return summary
  }
  for (const row of disks) Object.assign(of(row.vm_context_id), { diskCount: row.disks, totalSizeBytes: row.size })
  for (const row of backups) Object.assign(of(row.vm_context_id), { completedBackups: row.backups, lastBackupAt: row.last })
  return summaries
}

function filtered(catalog: Catalog, filter: VmContextFilter) {
  return catalog
    .selectFrom('vm_contexts')
    .$if(filter.vmName !== undefined, (query) => query.where('vm_name', '=', filter.vmName!))
    .$if(filter.search !== undefined, (query) =>
      query.where(sql`lower(vm_name)`, 'like', containing(filter.search!.toLowerCase())),
    )
    .$if(filter.sourceType !== undefined, (query) => query.where('source_type', '=', filter.sourceType!))
    .$if(filter.hostId !== undefined, (query) => query.where('host_id', '=', filter.hostId!))
    .$if(filter.sourceId !== undefined, (query) => query.where('source_id', '=', filter.sourceId!))
    .$if(filter.status !== undefined, (query) => query.where('current_status', '=', filter.status!))
}
