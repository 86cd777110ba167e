/** Deciding, before the first byte, what a backup will be and whether the repository has room for it. */
import { cancellationSignal } from '@temporalio/activity'
import type { BackupType, BackupWarning, FullReason } from '../domain/backup.ts'
import { decideBackup, decideDisk } from '../domain/chain.ts'
import type { BackupDecision, ChainBackup, DiskDecision, Tracking } from '../domain/chain.ts'
import { HoldfastError } from '../domain/errors.ts'
import { offline, refuseUnlessOpen } from '../domain/repository-refusal.ts'
import { estimateDiskNeedBytes, estimateIncrementNeedBytes } from '../domain/storage.ts'
import { largestRecentIncrement, listChainBackups, loadBackupWork, recordAdmission } from '../db/queries/backup-records.ts'
import type { BackupWork } from '../db/queries/backup-records.ts'
import { updateVm } from '../db/queries/registration.ts'
import { reserveSpace } from '../db/queries/reservations.ts'
import { takeSourceSlot } from '../db/queries/source-slots.ts'
import type { Manifest } from '../domain/manifest.ts'
import type { HostedRepository } from '../hosting/hosted-repository.ts'
import type { PublishedBackup, Repository } from '../repositories/repository.ts'
import type { Source, SourceDisk, VmDescription } from '../sources/source.ts'
import type { BackupAdmission } from '../temporal/operations.ts'
import { locateBackup } from './backup-location.ts'
import type { BackupLocation } from './backup-location.ts'
import { linksOfDisk, loadChain } from './chain-links.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'
import { patientWithSource } from './source-patience.ts'
import { lookAt } from './storage-monitoring.ts'

/** What the backup will be. Small: it travels through histories. */
export interface BackupPlan {
  admission: BackupAdmission
  disks: { index: number; label: string; backupType: BackupType }[]
}

export interface AdmissionActivities {
  /**
   * Looks at the VM, the catalog and the chain's files, reserves the space, and stores what the backup will be, as `running`.
   * `INSUFFICIENT_STORAGE` with `required_bytes`, `available_bytes` and who has reserved what; `SOURCE_*`; `REPO_*`. A parent that cannot be
   * used is no error but a reason. Idempotent.
   */
  admitBackup(backupId: string): Promise<BackupPlan>
}

interface PlannedDisk extends SourceDisk {
  backupType: BackupType
  fullReason: FullReason | null
  fullReasonDetail: string | null
  /** Bytes that changed since the parent, where the source counts them. */
  changedBytes: number | null
}

interface Decided {
  decision: BackupDecision
  disks: PlannedDisk[]
  warnings: BackupWarning[]
}

type AskTracking = (changeIds: Record<string, string | null>) => ReturnType<Source['trackingSince']>

export function createAdmissionActivities(dependencies: HostDependencies): AdmissionActivities {
  const { catalog, sourceOf } = dependencies
  return guarded({
    async admitBackup(backupId: string): Promise<BackupPlan> {
      const work = await loadBackupWork(catalog, backupId)
      const location = locateBackup(work, dependencies)
      const signal = cancellationSignal()
      await takeSourceSlot(catalog, backupId)
      await refuseUnlessReady(work, location.repository)
      const source = await sourceOf(work.vm)
      const described = await patientWithSource(() => source.describeVm(work.vm.config, { signal }))
      const earlier = await listChainBackups(catalog, work.vm.context_id, work.repository.id)
      const decided = await decide(work, described, earlier, location, (changeIds) =>
        patientWithSource(() => source.trackingSince(work.vm.config, changeIds, { signal })),
      )
      const requiredBytes = await estimate(dependencies, work, decided.disks)
      await reserve(dependencies, location.repository, work, requiredBytes)
      await store(dependencies, work, decided, described, location)
      return planOf(backupId, decided, requiredBytes)
    },
  })
}

/** Much may have changed while it waited. One that was admitted before is running, and goes on. */
async function refuseUnlessReady({ job, repository: row }: BackupWork, repository: Repository): Promise<void> {
  if (job.status !== 'pending') return
  refuseUnlessOpen(row)
  if (row.health !== 'offline') return
  // It may be back, or only its mover may have been away: what counts is now.
  const look = await lookAt(row, () => repository, { signal: cancellationSignal() })
  if (!look.reached) throw offline(row, look.message)
}

async function decide(
  work: BackupWork,
  { disks, warnings }: VmDescription,
  earlier: ChainBackup[],
  location: BackupLocation,
  trackingSince: AskTracking,
): Promise<Decided> {
  const decision = decideBackup(work.job.requested_type, earlier)
  if (decision.backupType === 'full') return full(decision, disks, warnings)
  const { vmFolder } = location.reference
  const parent = await usableParent(location.repository, { vmFolder, backupId: decision.parentBackupId })
  if ('unusable' in parent) {
    return full({ backupType: 'full', fullReason: 'parent_missing', detail: parent.unusable }, disks, warnings)
  }
  const { manifest } = parent
  const overwrittenAt = work.vm.restored_in_place_at
  if (overwrittenAt !== null && overwrittenAt >= new Date(manifest.snapshot_at)) {
    const detail = `the disks were overwritten by a restore at ${overwrittenAt.toISOString()}`
    return full({ backupType: 'full', fullReason: 'restored_in_place', detail }, disks, warnings)
  }
  const tracking = await trackingSince(Object.fromEntries(manifest.disks.map((disk) => [disk.key, disk.change_id])))
  const chainBackup = asChainBackup(manifest)
  const decisions = disks.map((disk) => ({ disk, ...decideDisk(disk, chainBackup, tracking[disk.key] ?? notTracked, disks) }))
  const lasting = decisions.find((one) => one.backupType === 'full')
  if (lasting && decisions.every((one) => one.backupType === 'full')) {
    // Nothing would build on the parent, so it is no parent.
    return full({ backupType: 'full', fullReason: lasting.fullReason, detail: lasting.detail }, disks, warnings)
  }
  const planned = decisions.map(({ disk, ...one }) => asPlanned(disk, one, tracking[disk.key]))
  return { decision, disks: planned, warnings: [...warnings, ...changesOf(planned, manifest, tracking)] }
}

const notTracked: Tracking = { state: 'untracked', detail: 'the source says nothing about this disk' }

/** What a person should know of how this backup differs from its parent. */
function changesOf(planned: PlannedDisk[], parent: Manifest, tracking: Record<string, Tracking>): BackupWarning[] {
  const removed = parent.disks.filter((disk) => !planned.some((candidate) => candidate.key === disk.key))
  const untracked = planned.flatMap((disk): BackupWarning[] => {
    const known = tracking[disk.key]
    if (disk.backupType === 'full' || known?.state !== 'untracked') return []
    const message = `Disk "${disk.label}" is read from end to end, and only what differs is stored: ${known.detail}.`
    return [{ code: 'no_change_tracking', disk: disk.key, message }]
  })
  return [
    ...removed.map(({ key, label }): BackupWarning => {
      const message = `Disk "${label}" is in backup ${parent.backup_id} but no longer in the VM; it is not part of this backup.`
      return { code: 'disk_removed', disk: key, message }
    }),
    ...untracked,
  ]
}

/** A lasting defect of the chain's files is a reason for a full; trouble that may pass is not. */
async function usableParent(
  repository: HostedRepository,
  reference: { vmFolder: string; backupId: string },
): Promise<PublishedBackup | { unusable: string }> {
  try {
    const chain = await loadChain(repository, reference)
    for (const disk of chain.newest.manifest.disks) await repository.disks.checkChain(linksOfDisk(chain, disk))
    return chain.newest
  } catch (error) {
    if (error instanceof HoldfastError && ['BACKUP_NOT_FOUND', 'BACKUP_CORRUPT', 'CORRUPT_CHAIN'].includes(error.code)) {
      return { unusable: error.message }
    }
    throw error
  }
}

function asChainBackup(manifest: Manifest): ChainBackup {
  return {
    id: manifest.backup_id,
    parentBackupId: manifest.parent_backup_id,
    backupType: manifest.backup_type,
    state: 'completed',
    verification: 'unverified',
    disks: manifest.disks.map((disk) => ({ index: disk.index, key: disk.key, sizeBytes: disk.size_bytes })),
  }
}

function full(
  decision: Extract<BackupDecision, { backupType: 'full' }>,
  disks: SourceDisk[],
  warnings: BackupWarning[],
): Decided {
  const { fullReason, detail: fullReasonDetail } = decision
  const planned = disks.map((disk) => ({
    ...disk,
    backupType: 'full' as const,
    fullReason,
    fullReasonDetail,
    changedBytes: null,
  }))
  return { decision, disks: planned, warnings }
}

function asPlanned(disk: SourceDisk, decision: DiskDecision, tracking: Tracking | undefined): PlannedDisk {
  const fullReason = decision.backupType === 'full' ? decision.fullReason : null
  const changedBytes = fullReason === null && tracking?.state === 'tracked' ? tracking.changedBytes : null
  const fullReasonDetail = decision.backupType === 'full' ? decision.detail : null
  return { ...disk, backupType: decision.backupType, fullReason, fullReasonDetail, changedBytes }
}

async function estimate({ catalog }: HostDependencies, { job }: BackupWork, disks: PlannedDisk[]): Promise<number> {
  const needs = disks.map(async (disk) => {
    if (disk.backupType === 'full') return estimateDiskNeedBytes(disk)
    // The guest goes on writing until the snapshot is taken: an upper bound for all but a flood of writes.
    if (disk.changedBytes !== null) {
      return estimateDiskNeedBytes({ ...disk, dataBytes: Math.min(disk.sizeBytes, 2 * disk.changedBytes) })
    }
    const { vm_context_id: vmContextId, repository_id: repositoryId } = job
    return estimateIncrementNeedBytes(
      disk,
      await largestRecentIncrement(catalog, { vmContextId, repositoryId, diskKey: disk.key }),
    )
  })
  return (await Promise.all(needs)).reduce((sum, need) => sum + need, 0)
}

/** Sets space aside for deletions first, where there is room: what is left is what backups may use. */
async function reserve(
  { catalog }: HostDependencies,
  repository: Repository,
  { job, repository: { id, name } }: BackupWork,
  needBytes: number,
): Promise<void> {
  // Of no use to this backup, so no reason against it; what keeps it from being made will be met by what follows.
  await repository.keepReserve().catch(() => {})
  await reserveSpace(catalog, { backupId: job.id, repository: { id, name }, needBytes }, () => repository.storage())
}

async function store(
  { catalog }: HostDependencies,
  { job }: BackupWork,
  { decision, disks, warnings }: Decided,
  { powerState, cpuCount, memoryMb, osType }: VmDescription,
  location: BackupLocation,
): Promise<void> {
  const { repository } = location
  await updateVm(catalog, job.vm_context_id, { powerState, cpuCount, memoryMb, osType, disks })
  await recordAdmission(catalog, {
    backupId: job.id,
    ...originOf(decision),
    warnings,
    disks: disks.map((disk) => ({ ...disk, qcow2Path: `${repository.root}/${job.repository_path}/disk-${disk.index}.qcow2` })),
  })
}

function originOf(
  decision: BackupDecision,
): Pick<BackupAdmission, 'backupType' | 'fullReason' | 'fullReasonDetail' | 'parentBackupId'> {
  return decision.backupType === 'full'
    ? { backupType: 'full', fullReason: decision.fullReason, fullReasonDetail: decision.detail, parentBackupId: null }
    : { backupType: 'incremental', fullReason: null, fullReasonDetail: null, parentBackupId: decision.parentBackupId }
}

function planOf(backupId: string, { decision, disks }: Decided, estimatedSizeBytes: number): BackupPlan {
  return {
    admission: { backupId, ...originOf(decision), estimatedSizeBytes, decided: true },
    disks: disks.map(({ index, label, backupType }) => ({ index, label, backupType })),
  }
}
