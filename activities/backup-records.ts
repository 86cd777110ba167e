/** Catalog steps of a backup: noting the request and its end. */
import { HoldfastError } from '../domain/errors.ts'
import type { ErrorCode } from '../domain/errors.ts'
import { refuseUnlessOpen } from '../domain/repository-refusal.ts'
import type { Catalog } from '../db/client.ts'
import { endBackup, insertPendingBackup } from '../db/queries/backup-records.ts'
import { findRepository } from '../db/queries/repositories.ts'
import type { BackupRepository } from '../db/queries/repositories.ts'
import { findVmContext, requirePresent } from '../db/queries/vm-contexts.ts'
import type { VmContext } from '../db/queries/vm-contexts.ts'
import type { StartBackupRequest } from '../temporal/operations.ts'
import { repositoryPathOf } from './backup-location.ts'
import { guarded } from './failure.ts'

export interface BackupEnd {
  backupId: string
  state: 'failed' | 'cancelled'
  code: ErrorCode
  message: string
}

export interface BackupRecordActivities {
  /** Notes the request as `pending` and says which host does the work. `VM_NOT_FOUND`, `REPO_NOT_FOUND`, `REPO_DISABLED`, `REPO_CRITICAL`, `SOURCE_INVALID`, `SOURCE_NOT_FOUND` (vanished). Idempotent. */
  recordBackup(request: StartBackupRequest & { workflowId: string }): Promise<{ hostId: string }>

  /** A backup that has ended keeps the end it has; one that was never recorded stays unknown. Idempotent. */
  recordBackupEnd(end: BackupEnd): Promise<void>
}

export function createBackupRecordActivities({ catalog }: { catalog: Catalog }): BackupRecordActivities {
  return guarded({
    async recordBackup(request: StartBackupRequest & { workflowId: string }): Promise<{ hostId: string }> {
      const [vm, repository] = await Promise.all([
        findVmContext(catalog, request.vmContextId),
        findRepository(catalog, request.repositoryId),
      ])
      if (!vm) throw missing('VM_NOT_FOUND', 'vm_context_id', request.vmContextId)
      if (!repository) throw missing('REPO_NOT_FOUND', 'repository_id', request.repositoryId)
      await insertPendingBackup(catalog, {
        ...request,
        vmName: vm.vm_name,
        requestedType: request.backupType,
        repositoryPath: repositoryPathOf(vm.vm_name, vm.context_id, request.backupId),
      })
      checkRoute(vm, repository)
      return { hostId: repository.host_id }
    },

    async recordBackupEnd(end: BackupEnd): Promise<void> {
      await endBackup(catalog, end)
    },
  })
}

function checkRoute(vm: VmContext, repository: BackupRepository): void {
  // Whether it can be reached its own host will see.
  refuseUnlessOpen(repository)
  requirePresent(vm)
  if (vm.host_id === repository.host_id) return
  throw new HoldfastError(
    'SOURCE_INVALID',
    `The disks of "${vm.vm_name}" are on host ${vm.host_id}, repository "${repository.name}" is on ${repository.host_id}: use a repository of the same host.`,
    { details: { vm_host_id: vm.host_id, repository_host_id: repository.host_id } },
  )
}

function missing(code: 'VM_NOT_FOUND' | 'REPO_NOT_FOUND', key: string, id: string): HoldfastError {
  const what = code === 'VM_NOT_FOUND' ? 'VM' : 'repository'
  return new HoldfastError(code, `The ${what} ${id} is not registered.`, { details: { [key]: id } })
}
