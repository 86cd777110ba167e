/** Starting the restore of a whole VM. */
import type { z } from '@hono/zod-openapi'
import { requireSource } from '../db/queries/sources.ts'
import { findVmContext } from '../db/queries/vm-contexts.ts'
import type { VmContext } from '../db/queries/vm-contexts.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { VmTarget } from '../domain/restore.ts'
import type { StartedRestore } from './answers/restores.ts'
import { backupDetailOf, requireCompleted, requireDisks } from './backup-choice.ts'
import type { ApiDependencies } from './dependencies.ts'
import { checkRestoreTarget } from './restore-target.ts'
import type { startRestoreRequest } from './schemas/restores.ts'

type Request = Extract<z.output<typeof startRestoreRequest>, { target: string }>

/**
 * `BACKUP_NOT_FOUND`, `BACKUP_NOT_COMPLETED`, `DISK_NOT_FOUND`, `RESTORE_TARGET_INVALID`, `RESTORE_NOT_CONFIRMED`,
 * `SOURCE_CONNECTION_NOT_FOUND`, `VM_NOT_FOUND`, and what the mover has against it.
 */
export async function startVmRestore(
  dependencies: ApiDependencies,
  restoreId: string,
  backupId: string,
  request: Request,
): Promise<StartedRestore> {
  const { operations, now } = dependencies
  const { job, disks, repository } = await backupDetailOf(dependencies, backupId)
  requireCompleted(job, 'restored')
  const diskIndexes = 'disks' in request && request.disks ? request.disks : disks.map((disk) => disk.disk_index)
  requireDisks(backupId, disks, diskIndexes)
  const target =
    request.target === 'libvirt'
      ? await newVm(dependencies, repository.host_id, request)
      : await originalOf(dependencies, job.vm_context_id, request)
  await operations.restoreVm({ restoreId, backupId, diskIndexes, target })
  const noFile = { disk_index: null, target_path: null, final_path: null, target_format: null }
  return { id: restoreId, backup_id: backupId, target, ...noFile, created_at: now() }
}

async function newVm(
  { catalog }: ApiDependencies,
  hostId: string,
  request: Extract<Request, { target: 'libvirt' }>,
): Promise<VmTarget> {
  await checkRestoreTarget(catalog, hostId, request.disk_folder)
  const source = await requireSource(catalog, request.source_id)
  if (source.source_type !== 'libvirt') {
    throw new HoldfastError('RESTORE_TARGET_INVALID', `Source "${source.name}" is of type ${source.source_type}, not libvirt.`, {
      details: { source_id: source.id },
    })
  }
  return {
    type: 'libvirt',
    sourceId: source.id,
    vmName: request.vm_name,
    diskFolder: request.disk_folder,
    connectNetwork: request.connect_network,
    start: request.start,
  }
}

async function originalOf(
  { catalog }: ApiDependencies,
  vmContextId: string,
  { confirm }: Extract<Request, { target: 'original' }>,
): Promise<VmTarget> {
  const vm = await findVmContext(catalog, vmContextId)
  if (!vm) throw new HoldfastError('VM_NOT_FOUND', 'The VM of this backup is no longer known: restore it as a new VM.')
  requireConfirmation(vm, confirm)
  if (vm.source_type !== 'libvirt' || vm.source_id === null) {
    throw new HoldfastError(
      'RESTORE_TARGET_INVALID',
      `VMs of type ${vm.source_type} cannot be overwritten: restore the disks to files.`,
      { details: { vm_context_id: vm.context_id } },
    )
  }
  return { type: 'original', sourceId: vm.source_id, vmName: vm.vm_name, vmContextId: vm.context_id }
}

function requireConfirmation(vm: VmContext, confirm: string | undefined): void {
  if (confirm === vm.vm_name) return
  throw new HoldfastError(
    'RESTORE_NOT_CONFIRMED',
    `This overwrites the disks of the VM "${vm.vm_name}". To confirm it, send its exact name as "confirm".`,
    { details: { vm_context_id: vm.context_id, vm_name: vm.vm_name } },
  )
}
