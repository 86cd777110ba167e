/** Writing that a backup is published, and the chains it is part of. The manifest is the authority; the catalog follows it. */
import { createHash } from 'node:crypto'
import type { Transaction } from 'kysely'
import type { Manifest, ManifestDisk } from '../../domain/manifest.ts'
import type { Catalog } from '../client.ts'
import type { Database } from '../schema.ts'
import { unparkForGood } from './parking.ts'
import { releaseSpace } from './reservations.ts'

/** Stores a published backup: completed, with sizes, hash roots and the change ids that the next incremental starts from. Idempotent. */
export async function recordPublishedBackup(
  catalog: Catalog,
  manifest: Manifest,
  repository: { id: string; folder: string },
): Promise<void> {
  await catalog.transaction().execute(async (transaction) => {
    await completeJob(transaction, manifest)
    for (const disk of manifest.disks) await completeDisk(transaction, manifest, disk, repository.folder)
    await rebuildChains(transaction, manifest.vm.context_id, repository.id)
    await releaseSpace(transaction, manifest.backup_id)
    await unparkForGood(transaction, manifest.backup_id)
  })
}

async function completeJob(transaction: Transaction<Database>, manifest: Manifest): Promise<void> {
  const totalBytes = sum(manifest.disks, (disk) => disk.size_bytes)
  await transaction
    .updateTable('backup_jobs')
    .set({
      status: 'completed',
      backup_type: manifest.backup_type,
      full_reason: manifest.full_reason,
      parent_backup_id: manifest.parent_backup_id,
      consistency: manifest.consistency,
      consistency_reason: manifest.consistency_reason,
      warnings: JSON.stringify(manifest.warnings),
      total_bytes: totalBytes,
      processed_bytes: totalBytes,
      bytes_transferred: sum(manifest.disks, (disk) => disk.written_bytes),
      size_bytes: sum(manifest.disks, (disk) => disk.file_size_bytes),
      error_code: null,
      error_message: null,
      completed_at: new Date(manifest.published_at),
    })
    .where('id', '=', manifest.backup_id)
    .execute()
}

async function completeDisk(
  transaction: Transaction<Database>,
  manifest: Manifest,
  disk: ManifestDisk,
  folder: string,
): Promise<void> {
  await transaction
    .updateTable('backup_disks')
    .set({
      status: 'completed',
      backup_type: disk.backup_type,
      full_reason: disk.full_reason,
      qcow2_path: `${folder}/${disk.file}`,
      size_bytes: disk.size_bytes,
      file_size_bytes: disk.file_size_bytes,
      processed_bytes: disk.size_bytes,
      bytes_transferred: disk.written_bytes,
      rate_bytes_per_second: 0,
      disk_change_id: disk.change_id,
      blocks_sha256: disk.blocks_sha256,
      error_message: null,
      completed_at: new Date(manifest.published_at),
    })
    .where('backup_job_id', '=', manifest.backup_id)
    .where('disk_index', '=', disk.index)
    .execute()
}

interface DiskOfBackup {
  backupId: string
  parentBackupId: string | null
  diskIndex: number
  diskKey: string
  isFull: boolean
  fileSizeBytes: number
}

interface DiskChain {
  fullBackupId: string
  diskIndex: number
  latestBackupId: string
  totalBackups: number
  totalSizeBytes: number
}

/** Derives the chain rows of a VM in a repository from its completed backups: the same input always gives the same rows. */
export async function rebuildChains(
  transaction: Transaction<Database>,
  vmContextId: string,
  repositoryId: string,
): Promise<void> {
  const chains = chainsOf(await completedDisks(transaction, vmContextId, repositoryId))
  const ids = chains.map((chain) => chainId(chain))
  await transaction
    .deleteFrom('backup_chains')
    .where('vm_context_id', '=', vmContextId)
    .where('repository_id', '=', repositoryId)
    .$if(ids.length > 0, (query) => query.where('id', 'not in', ids))
    .execute()
  for (const chain of chains) {
    const grown = {
      latest_backup_id: chain.latestBackupId,
      total_backups: chain.totalBackups,
      total_size_bytes: chain.totalSizeBytes,
    }
    await transaction
      .insertInto('backup_chains')
      .values({
        id: chainId(chain),
        vm_context_id: vmContextId,
        repository_id: repositoryId,
        disk_id: chain.diskIndex,
        full_backup_id: chain.fullBackupId,
        ...grown,
      })
      .onDuplicateKeyUpdate(grown)
      .execute()
  }
}

/** Oldest first, so that a parent is always met before what depends on it. */
async function completedDisks(
  transaction: Transaction<Database>,
  vmContextId: string,
  repositoryId: string,
): Promise<DiskOfBackup[]> {
  const rows = await transaction
    .selectFrom('backup_disks')
    .innerJoin('backup_jobs', 'backup_jobs.id', 'backup_disks.backup_job_id')
    .select([
      'backup_jobs.id as backupId',
      'backup_jobs.parent_backup_id as parentBackupId',
      'backup_disks.disk_index as diskIndex',
      'backup_disks.disk_key as diskKey',
      'backup_disks.backup_type as backupType',
      'backup_disks.file_size_bytes as fileSizeBytes',
    ])
    .where('backup_jobs.vm_context_id', '=', vmContextId)
    .where('backup_jobs.repository_id', '=', repositoryId)
    .where('backup_jobs.status', '=', 'completed')
    .orderBy('backup_jobs.created_at')
    .orderBy('backup_jobs.id')
    .execute()
  return rows.map(({ backupType, ...row }) => ({ ...row, isFull: backupType === 'full' }))
}

function chainsOf(disks: readonly DiskOfBackup[]): DiskChain[] {
  const chains: DiskChain[] = []
  const chainByDisk = new Map<string, DiskChain>()
  for (const disk of disks) {
    const parent = disk.isFull ? undefined : chainByDisk.get(`${disk.parentBackupId} ${disk.diskKey}`)
    const chain = parent ?? newChain(disk)
    if (!parent) chains.push(chain)
    chain.latestBackupId = disk.backupId
    chain.totalBackups += 1
    chain.totalSizeBytes += disk.fileSizeBytes
    chainByDisk.set(`${disk.backupId} ${disk.diskKey}`, chain)
  }
  return chains
}

function newChain({ backupId, diskIndex }: DiskOfBackup): DiskChain {
  return { fullBackupId: backupId, diskIndex, latestBackupId: backupId, totalBackups: 0, totalSizeBytes: 0 }
}

/** From what makes the chain unique, so that a rebuilt row keeps its id. */
function chainId(chain: DiskChain): string {
  return `chain-${createHash('sha256').update(`${chain.fullBackupId} ${chain.diskIndex}`).digest('hex').slice(0, 32)}`
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0)
}
