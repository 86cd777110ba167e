/** Chains as the API shows them. */
import type { z } from '@hono/zod-openapi'
import type { BackupDisk } from '../../db/queries/backup-detail.ts'
import type { BackupJob } from '../../db/queries/backup-list.ts'
import type { FoundChain } from '../../db/queries/chains.ts'
import type { VmContext } from '../../db/queries/vm-contexts.ts'
import type { chainAnswer } from '../schemas/chains.ts'
import { gigabytes, timeOrNull } from './units.ts'

type ChainAnswer = z.infer<typeof chainAnswer>
type ChainBackupAnswer = ChainAnswer['backups'][number]

export interface ChainQuestion {
  vm: VmContext
  /** Sizes of this disk alone; of all disks when absent. */
  diskIndex: number | undefined
  /** `chain` as one object, or as the list of its backups. */
  form: 'object' | 'list'
}

export function chainOfVmAnswer(found: FoundChain, { vm, diskIndex, form }: ChainQuestion): ChainAnswer {
  const backups = backupAnswers(found, diskIndex)
  const totalSizeBytes = backups.reduce((sum, backup) => sum + backup.size_bytes, 0)
  const full = backups[0]!.id
  const facts = {
    vm_context_id: vm.context_id,
    repository_id: found.repositoryId,
    disk_id: diskIndex ?? null,
    full_backup_id: full,
    latest_backup_id: backups.at(-1)!.id,
    total_backups: backups.length,
    total_size_bytes: totalSizeBytes,
    chain_size_gb: gigabytes(totalSizeBytes),
    backups,
  }
  const chainId = diskIndex === undefined ? `chain-${full}` : `chain-${full}-disk${diskIndex}`
  return {
    success: true,
    chain_id: chainId,
    vm_name: vm.vm_name,
    ...facts,
    chain: form === 'object' ? { id: chainId, ...facts } : backups,
  }
}

/** Oldest first, numbered from 1. A backup restores when nothing below it is missing or failed verification. */
function backupAnswers(found: FoundChain, diskIndex: number | undefined): ChainBackupAnswer[] {
  const restorable = new Map<string, boolean>()
  return found.backups.map((backup, index) => {
    const parentRestores = backup.parent_backup_id === null || restorable.get(backup.parent_backup_id) === true
    const restores = parentRestores && backup.status === 'completed' && backup.verification_status !== 'failed'
    restorable.set(backup.id, restores)
    const disks = found.disks.get(backup.id) ?? []
    return chainBackupAnswer(backup, disks, { index, restores, sizeBytes: sizeOf(backup, disks, diskIndex) })
  })
}

function chainBackupAnswer(
  backup: BackupJob,
  disks: readonly BackupDisk[],
  place: { index: number; restores: boolean; sizeBytes: number },
): ChainBackupAnswer {
  return {
    id: backup.id,
    backup_id: backup.id,
    backup_type: backup.backup_type,
    full_reason: backup.full_reason,
    full_reason_detail: backup.full_reason_detail,
    consistency: backup.consistency,
    consistency_reason: backup.consistency_reason,
    warnings: backup.warnings,
    status: backup.status,
    sequence_number: place.index + 1,
    parent_backup_id: backup.parent_backup_id,
    is_restorable: place.restores,
    verification_status: backup.verification_status,
    size_bytes: place.sizeBytes,
    size_gb: gigabytes(place.sizeBytes),
    created_at: backup.created_at.toISOString(),
    completed_at: timeOrNull(backup.completed_at),
    disks: disks.map((disk) => ({
      disk_id: disk.disk_index,
      disk_key: disk.disk_key,
      backup_type: disk.backup_type,
      full_reason: disk.full_reason,
      full_reason_detail: disk.full_reason_detail,
    })),
  }
}

function sizeOf(backup: BackupJob, disks: readonly BackupDisk[], diskIndex: number | undefined): number {
  if (diskIndex === undefined) return backup.size_bytes
  return disks.find((disk) => disk.disk_index === diskIndex)?.file_size_bytes ?? 0
}
