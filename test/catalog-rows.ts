/** Small valid rows for tests of the catalog; give what matters to the test, the rest is filled in. */
import type { Insertable } from 'kysely'
import type { Catalog } from '../db/client.ts'
import type { JsonObject } from '../domain/errors.ts'
import type { BackupJobsTable, Database, SourcesTable, VmContextsTable } from '../db/schema.ts'

export async function insertVm(catalog: Catalog, contextId: string, vmName = contextId): Promise<void> {
  await catalog
    .insertInto('vm_contexts')
    .values({ context_id: contextId, vm_name: vmName, source_type: 'disk-image', config: '{"disks":[]}', host_id: 'local' })
    .execute()
}

/** A libvirt domain as a discovery through `sourceId` records it; the source must exist. Returns its context id. */
export async function insertDomain(
  catalog: Catalog,
  domain: { uuid: string; name: string; config: JsonObject },
  sourceId: string,
): Promise<string> {
  const contextId = `ctx-${domain.uuid}`
  const config = JSON.stringify(domain.config)
  const origin = { source_type: 'libvirt', config, host_id: 'local', source_id: sourceId, external_id: domain.uuid } as const
  await catalog
    .insertInto('vm_contexts')
    .values({ context_id: contextId, vm_name: domain.name, ...origin })
    .execute()
  return contextId
}

export async function insertRepository(catalog: Catalog, id: string, name = id): Promise<void> {
  await catalog
    .insertInto('backup_repositories')
    .values({ id, name, repository_type: 'local', config: JSON.stringify({ path: `/srv/${id}` }), host_id: 'local' })
    .execute()
}

/** A completed full, unless told otherwise. Its VM and repository must exist. */
export async function insertBackup(
  catalog: Catalog,
  row: { id: string; vm_context_id: string; repository_id: string } & Partial<Insertable<BackupJobsTable>>,
): Promise<void> {
  const full = (row.parent_backup_id ?? null) === null
  const backupType = full ? 'full' : 'incremental'
  const time = row.created_at ?? new Date()
  await catalog
    .insertInto('backup_jobs')
    .values({
      vm_name: row.vm_context_id,
      requested_type: backupType,
      backup_type: backupType,
      full_reason: full ? 'first_backup' : null,
      status: 'completed',
      repository_path: `vms/${row.vm_context_id}/${row.id}`,
      compression: 'zstd',
      workflow_id: `vm-chain:${row.vm_context_id}`,
      created_at: time,
      completed_at: time,
      ...row,
    })
    .execute()
}

export async function insertBackupDisk(catalog: Catalog, backupId: string, diskIndex = 0): Promise<void> {
  await catalog
    .insertInto('backup_disks')
    .values({
      backup_job_id: backupId,
      disk_index: diskIndex,
      disk_key: `/images/disk-${diskIndex}.raw`,
      label: `disk-${diskIndex}`,
      backup_type: 'full',
      qcow2_path: `/srv/${backupId}/disk-${diskIndex}.qcow2`,
      size_bytes: 1024,
    })
    .execute()
}

export async function countRows(catalog: Catalog, table: keyof Database): Promise<number> {
  const row = await catalog
    .selectFrom(table)
    .select((make) => make.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow()
  return row.count
}

/** A libvirt connection that was reached, unless told otherwise. */
export async function insertSource(catalog: Catalog, id: string, row: Partial<Insertable<SourcesTable>> = {}): Promise<void> {
  await catalog
    .insertInto('sources')
    .values({
      id,
      name: id,
      source_type: 'libvirt',
      config: JSON.stringify({ uri: `qemu+ssh://${id}/system`, scratch_folder: '/var/tmp' }),
      host_id: 'local',
      status: 'reachable',
      ...row,
    })
    .execute()
}

/** A domain of that connection with one disk, `vda`. */
export async function insertLibvirtVm(
  catalog: Catalog,
  contextId: string,
  sourceId: string,
  row: Partial<Insertable<VmContextsTable>> = {},
): Promise<void> {
  const externalId = `uuid-${contextId}`
  await catalog
    .insertInto('vm_contexts')
    .values({
      context_id: contextId,
      vm_name: contextId,
      source_type: 'libvirt',
      source_id: sourceId,
      external_id: externalId,
      config: JSON.stringify({ uuid: externalId }),
      host_id: 'local',
      ...row,
    })
    .execute()
  const disk = { disk_key: 'vda', label: 'vda', format: 'qcow2', path: `/images/${contextId}.qcow2`, size_bytes: 1024 }
  await catalog
    .insertInto('vm_disks')
    .values({ vm_context_id: contextId, disk_index: 0, ...disk })
    .execute()
}
