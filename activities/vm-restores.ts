/** Restoring whole VMs: where the disks go, and what is made of them. The disks themselves are written by `restoreDisk`. */
import { cancellationSignal, log } from '@temporalio/activity'
import type { Catalog } from '../db/client.ts'
import { loadBackupWork } from '../db/queries/backup-records.ts'
import type { BackupWork } from '../db/queries/backup-records.ts'
import { findSource } from '../db/queries/sources.ts'
import {
  addRestoreWarning,
  insertVmRestore,
  loadVmRestore,
  markOverwritten,
  noteDiskBegins,
  noteRestoredVm,
} from '../db/queries/vm-restore-records.ts'
import type { VmRestoreRecord } from '../db/queries/vm-restore-records.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { Manifest } from '../domain/manifest.ts'
import { diskRestoreId } from '../domain/restore.ts'
import type { VmTarget } from '../domain/restore.ts'
import type { PlannedDisk, RestoredVm, VmRestore, VmRestorer } from '../sources/source.ts'
import type { RestoreVmRequest } from '../temporal/operations.ts'
import { holdingRestores } from './attempt-lock.ts'
import { locateBackup } from './backup-location.ts'
import { diskOf } from './chain-links.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'
import { repositoryRoots } from './restores.ts'

export interface VmRestoreRecordActivities {
  /** Notes a restore whose targets have been checked, as `running`. Idempotent. */
  recordVmRestore(input: RestoreVmRequest & { workflowId: string; disks: PlannedDisk[] }): Promise<void>

  /** A disk is being written from now on. Idempotent. */
  recordRestoredDiskBegin(diskRestoreId: string): Promise<void>

  /** To be called before the first of a VM's disks is replaced: no backup builds on an older one any more. Idempotent. */
  recordOverwriting(vmContextId: string): Promise<void>
}

/** Steps of the control worker. */
export function createVmRestoreRecordActivities({ catalog }: { catalog: Catalog }): VmRestoreRecordActivities {
  return guarded({
    async recordVmRestore(input: RestoreVmRequest & { workflowId: string; disks: PlannedDisk[] }): Promise<void> {
      const { job } = await loadBackupWork(catalog, input.backupId)
      await insertVmRestore(catalog, { ...input, vmName: job.vm_name })
    },

    async recordRestoredDiskBegin(diskRestoreId: string): Promise<void> {
      await noteDiskBegins(catalog, diskRestoreId)
    },

    async recordOverwriting(vmContextId: string): Promise<void> {
      await markOverwritten(catalog, vmContextId, new Date())
    },
  })
}

export interface VmRestoreActivities {
  /**
   * Where each disk is to be written. `RESTORE_TARGET_INVALID`, `RESTORE_TARGET_EXISTS`, `VM_EXISTS`, `VM_RUNNING`, `SOURCE_*`,
   * `DISK_NOT_FOUND`. Leaves nothing behind.
   */
  planVmRestore(request: RestoreVmRequest): Promise<PlannedDisk[]>

  /** Makes the VM of its disks, which are all written. Errors of {@link VmRestorer.complete}. Idempotent. */
  completeVmRestore(restoreId: string): Promise<RestoredVm>

  /** A VM that does not start is there all the same: the reason becomes a warning of the restore. */
  startRestoredVm(restoreId: string): Promise<void>

  /** Removes what a restore wrote and made. Idempotent; see {@link VmRestorer.discard}. */
  discardVmRestore(restoreId: string): Promise<Awaited<ReturnType<VmRestorer['discard']>>>
}

/** Steps of a data host. */
export function createVmRestoreActivities(dependencies: HostDependencies): VmRestoreActivities {
  const { catalog } = dependencies
  return guarded({
    async planVmRestore(request: RestoreVmRequest): Promise<PlannedDisk[]> {
      const { restoreId, backupId, target } = request
      await requireHost(dependencies, target)
      const work = await loadBackupWork(catalog, backupId)
      const manifest = await manifestOf(dependencies, work)
      const disks = request.diskIndexes.map((diskIndex) => {
        const { index, key, size_bytes: sizeBytes } = diskOf({ backupId, manifest }, diskIndex)
        return { index, key, sizeBytes }
      })
      const restorer = await restorerOf(dependencies, target)
      const planned = await restorer.plan(
        { ...restoreOf(restoreId, target, work, manifest), disks },
        { signal: cancellationSignal() },
      )
      const roots = await repositoryRoots(dependencies)
      for (const disk of planned) {
        const diskId = diskRestoreId(restoreId, disk.index)
        await dependencies.repositories.targets.checkRestoreTarget(disk.writePath, diskId, roots)
      }
      return planned
    },

    async completeVmRestore(restoreId: string): Promise<RestoredVm> {
      return completeVmRestore(dependencies, await loadVmRestore(catalog, restoreId))
    },

    async startRestoredVm(restoreId: string): Promise<void> {
      const { target, external_id: externalId } = await loadVmRestore(catalog, restoreId)
      if (externalId === null) return
      const restorer = await restorerOf(dependencies, target)
      try {
        await restorer.start(externalId, { signal: cancellationSignal() })
      } catch (error) {
        if (!(error instanceof HoldfastError)) throw error
        await addRestoreWarning(catalog, restoreId, `The VM was restored, but it did not start: ${error.message}`)
      }
    },

    async discardVmRestore(restoreId: string): Promise<Awaited<ReturnType<VmRestorer['discard']>>> {
      const outcome = await discardVmRestore(dependencies, await loadVmRestore(catalog, restoreId))
      if (outcome !== 'discarded') log.warn(`Restore ${restoreId} cannot be taken back: it is ${outcome}`)
      return outcome
    },
  })
}

/** Under the locks of its disks: an attempt that Temporal gave up may still be writing. */
export async function completeVmRestore(dependencies: HostDependencies, restore: VmRestoreRecord): Promise<RestoredVm> {
  const { catalog } = dependencies
  return holdingRestores(
    restore.disks.map((disk) => disk.id),
    async () => {
      const { restorer, request } = await readyRestorer(dependencies, restore)
      const made = await restorer.complete(request, { signal: cancellationSignal() })
      await noteRestoredVm(catalog, restore.id, made)
      return made
    },
  )
}

/** As {@link completeVmRestore}, the other way round. */
export async function discardVmRestore(
  dependencies: HostDependencies,
  restore: VmRestoreRecord,
): Promise<Awaited<ReturnType<VmRestorer['discard']>>> {
  return holdingRestores(
    restore.disks.map((disk) => disk.id),
    async () => {
      for (const disk of restore.disks) {
        await dependencies.repositories.targets.discardRestore(disk.target_path, disk.id)
      }
      const { restorer, request } = await readyRestorer(dependencies, restore)
      return restorer.discard(request, { signal: cancellationSignal() })
    },
  )
}

async function readyRestorer(
  dependencies: HostDependencies,
  restore: VmRestoreRecord,
): Promise<{ restorer: VmRestorer; request: VmRestore & { disks: PlannedDisk[] } }> {
  const work = await loadBackupWork(dependencies.catalog, restore.backup_id)
  const manifest = await manifestOf(dependencies, work)
  const disks = restore.disks.map((row): PlannedDisk => {
    const { index, key, size_bytes: sizeBytes } = diskOf({ backupId: restore.backup_id, manifest }, row.disk_index)
    return { index, key, sizeBytes, writePath: row.target_path, path: row.final_path, format: row.target_format }
  })
  const restorer = await restorerOf(dependencies, restore.target)
  return { restorer, request: { ...restoreOf(restore.id, restore.target, work, manifest), disks } }
}

function restoreOf(restoreId: string, target: VmTarget, { vm }: BackupWork, manifest: Manifest): VmRestore {
  const vmConfig = manifest.vm.config
  const { vmName } = target
  return target.type === 'libvirt'
    ? {
        restoreId,
        vmConfig,
        target: { mode: 'new', vmName, config: null, diskFolder: target.diskFolder, connectNetwork: target.connectNetwork },
      }
    : { restoreId, vmConfig, target: { mode: 'in-place', vmName, config: vm.config, diskFolder: null, connectNetwork: true } }
}

async function manifestOf(dependencies: HostDependencies, work: BackupWork): Promise<Manifest> {
  const { repository, reference } = locateBackup(work, dependencies)
  return (await repository.getBackup(reference)).manifest
}

/** The disks are written by the mover that has the repository; the hypervisor must be reached from there. */
async function requireHost({ catalog, hostId }: HostDependencies, { sourceId }: VmTarget): Promise<void> {
  const source = await findSource(catalog, sourceId)
  if (!source || source.host_id === hostId) return
  throw new HoldfastError(
    'RESTORE_TARGET_INVALID',
    `The hypervisor of source "${source.name}" belongs to host "${source.host_id}", the backup lies on host "${hostId}". Restore the disks to files, and copy them there.`,
    { details: { source_id: sourceId, host_id: source.host_id } },
  )
}

async function restorerOf({ sourceOf }: HostDependencies, { sourceId }: VmTarget): Promise<VmRestorer> {
  const source = await sourceOf({ source_type: 'libvirt', source_id: sourceId })
  if (source.platform) return source.platform.restorer
  throw new HoldfastError('RESTORE_TARGET_INVALID', `Sources of type "${source.type}" make no VMs: restore the disks to files.`)
}
