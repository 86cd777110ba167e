/** Starting a backup: which VM, where to, under which id, and what the caller is told. */
import { randomInt } from 'node:crypto'
import type { z } from '@hono/zod-openapi'
import { findBackupDetail } from '../db/queries/backup-detail.ts'
import type { BackupDetail } from '../db/queries/backup-detail.ts'
import { requireRepository } from '../db/queries/repositories.ts'
import { disksOfVm, requirePresent } from '../db/queries/vm-contexts.ts'
import type { VmContext } from '../db/queries/vm-contexts.ts'
import { HoldfastError } from '../domain/errors.ts'
import { backupIdFor } from '../domain/ids.ts'
import { refuseUnlessReady } from '../domain/repository-refusal.ts'
import type { BackupAdmission } from '../temporal/operations.ts'
import { gigabytes } from './answers/units.ts'
import type { ApiDependencies } from './dependencies.ts'
import type { startBackupAnswer, startBackupRequest } from './schemas/backups.ts'

type StartBackup = z.output<typeof startBackupRequest>
type StartBackupAnswer = z.infer<typeof startBackupAnswer>

/** As the domain wants it: the VM's name, the time, six letters or digits that no other backup of that second has. */
export function newBackupId(vm: VmContext, now: Date): string {
  const letters = 'abcdefghijklmnopqrstuvwxyz0123456789'
  return backupIdFor(vm.vm_name, now, Array.from({ length: 6 }, () => letters[randomInt(letters.length)]).join(''))
}

/**
 * Starts the backup and waits for its admission. `SOURCE_NOT_FOUND` (the VM has vanished), `REPO_NOT_FOUND`, `REPO_DISABLED`, `REPO_CRITICAL`, `REPO_UNAVAILABLE`, `VM_BUSY`,
 * and what admission refuses with.
 * Asked twice with one id, it answers about the one backup.
 */
export async function startBackup(
  dependencies: ApiDependencies,
  backupId: string,
  vm: VmContext,
  request: StartBackup,
): Promise<StartBackupAnswer> {
  requirePresent(vm)
  const repository = await requireRepository(dependencies.catalog, request.repository_id)
  refuseUnlessReady(repository)
  const admission = await dependencies.operations.startBackup({
    backupId,
    vmContextId: vm.context_id,
    repositoryId: request.repository_id,
    backupType: request.backup_type,
    compression: request.compression_enabled ? 'zstd' : 'none',
    rateLimitBytesPerSecond: request.rate_limit_bytes_per_second,
  })
  return startedAnswer(dependencies, vm, request, admission)
}

/**
 * The answer for a backup that an earlier request has started, from what the catalog knows; `undefined` when it never got so far.
 * One that was refused at admission is refused again in the same words.
 */
export async function recallBackup(
  dependencies: ApiDependencies,
  backupId: string,
  vm: VmContext,
  request: StartBackup,
): Promise<StartBackupAnswer | undefined> {
  const detail = await findBackupDetail(dependencies.catalog, backupId)
  if (!detail) return undefined
  const { job } = detail
  if (job.status === 'failed' && job.started_at === null) {
    throw new HoldfastError(job.error_code ?? 'INTERNAL', job.error_message ?? 'The backup was refused.', {
      details: { backup_id: job.id },
    })
  }
  return startedAnswer(dependencies, vm, request, admissionOf(detail))
}

function admissionOf({ job }: BackupDetail): BackupAdmission {
  return {
    backupId: job.id,
    backupType: job.backup_type,
    fullReason: job.full_reason,
    fullReasonDetail: job.full_reason_detail,
    parentBackupId: job.parent_backup_id,
    estimatedSizeBytes: 0,
    decided: job.status !== 'pending',
  }
}

async function startedAnswer(
  { catalog, now }: ApiDependencies,
  vm: VmContext,
  request: StartBackup,
  admission: BackupAdmission,
): Promise<StartBackupAnswer> {
  const [detail, vmDisks] = await Promise.all([findBackupDetail(catalog, admission.backupId), disksOfVm(catalog, vm.context_id)])
  const recorded = new Map(detail?.disks.map((disk) => [disk.disk_index, disk]))
  return {
    success: true,
    backup_id: admission.backupId,
    backup_job_id: admission.backupId,
    vm_context_id: vm.context_id,
    vm_name: vm.vm_name,
    repository_id: request.repository_id,
    policy_id: null,
    status: 'started',
    backup_type: admission.backupType,
    requested_type: request.backup_type,
    full_reason: admission.fullReason,
    full_reason_detail: admission.fullReasonDetail,
    parent_backup_id: admission.parentBackupId,
    compression_enabled: request.compression_enabled,
    estimated_size_bytes: admission.estimatedSizeBytes,
    disk_results: vmDisks.map((disk) => ({
      disk_id: disk.disk_index,
      disk_index: disk.disk_index,
      vmware_disk_key: null,
      // Disks travel over unix sockets: no port is opened.
      nbd_port: null,
      label: disk.label,
      size_bytes: disk.size_bytes,
      size_gb: gigabytes(disk.size_bytes),
      qcow2_path: recorded.get(disk.disk_index)?.qcow2_path ?? null,
      status: recorded.get(disk.disk_index)?.status ?? 'pending',
    })),
    created_at: (detail?.job.created_at ?? now()).toISOString(),
    message: messageOf(request, admission),
  }
}

function messageOf(request: StartBackup, admission: BackupAdmission): string {
  if (!admission.decided) return 'Backup accepted. No mover has answered yet; it begins when one does.'
  if (request.backup_type === 'incremental' && admission.backupType === 'full') {
    return `Backup started as a full: ${admission.fullReasonDetail ?? admission.fullReason ?? 'no usable parent'}.`
  }
  return 'Backup started.'
}
