/** Repairs on a data host: backups, restores, mounts and deletions cut short, staging folders and sockets left behind. */
import { lstat } from 'node:fs/promises'
import { endBackup, loadBackupWork } from '../db/queries/backup-records.ts'
import type { BackupWork } from '../db/queries/backup-records.ts'
import { changeIdsInUseOf } from '../db/queries/change-ids.ts'
import { recordDeletedBackup } from '../db/queries/deletion-records.ts'
import { listDeletionMarks, removeObservedPin } from '../db/queries/pins.ts'
import { recordPublishedBackup } from '../db/queries/publication-records.ts'
import { endRestore, loadRestore } from '../db/queries/restore-records.ts'
import { findVmRestore } from '../db/queries/vm-restore-records.ts'
import { knownBackups, repositoriesOfHost } from '../db/queries/unfinished.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import { holdingDisks, holdingRestore } from './attempt-lock.ts'
import { locateBackup, repositoryRecord } from './backup-location.ts'
import { lockWithChain } from './backup-locks.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'
import { publishedManifest } from './publication.ts'
import type { AbandonedWork, Leftover, Repair } from './reconciliation.ts'
import { closeUnknownMounts, settleMount } from './restore-mount-repair.ts'
import { removeDeadRunFolders } from './run-folders.ts'
import { settleVmRestore } from './vm-restore-repair.ts'

/** A listing reads every manifest: it may take this part of the time at most, so that a huge repository is swept seldom. */
const SWEEP_SHARE = 0.01

export interface HostFindings {
  repairs: Repair[]
  leftovers: Leftover[]
}

export interface HostReconciliationActivities {
  /** Ends work whose workflow is gone: what was published is completed, everything else is cleaned up. Idempotent. */
  settleAbandoned(work: Omit<AbandonedWork, 'hostId' | 'repositoryId'>): Promise<Repair[]>

  /** Looks through the host's repositories, mounts and run folder. Closes mounts without a row, removes dead processes' sockets; reports what it does not know. */
  inspectHost(hostId: string): Promise<HostFindings>

  /** Removes staging folders that nobody owns. Idempotent. */
  discardLeftovers(leftovers: Leftover[]): Promise<Repair[]>
}

export function createHostReconciliationActivities(
  dependencies: HostDependencies & { homeRunFolder: string },
): HostReconciliationActivities {
  const { catalog, repositories } = dependencies
  const nextSweepAt = new Map<string, number>()
  const settle = { backup: settleBackup, restore: settleRestore, deletion: settleDeletion, mount: settleMount }

  return guarded({
    async settleAbandoned(work: Found): Promise<Repair[]> {
      return settle[work.kind](dependencies, work)
    },

    async inspectHost(hostId: string): Promise<HostFindings> {
      const removed = await removeDeadRunFolders(dependencies.homeRunFolder)
      const repairs: Repair[] = removed.map((name) => ({ kind: 'sockets', what: `removed the sockets that ${name} left` }))
      repairs.push(...(await closeUnknownMounts(dependencies)))
      const rows = await repositoriesOfHost(catalog, hostId)
      // Side by side: one that does not answer must not keep the others waiting.
      const found = await Promise.all(rows.map((row) => inspectInItsTurn(dependencies, row, nextSweepAt)))
      repairs.push(...found.flatMap((findings) => findings.repairs))
      return { repairs, leftovers: found.flatMap((findings) => findings.leftovers) }
    },

    async discardLeftovers(leftovers: Leftover[]): Promise<Repair[]> {
      const repairs: Repair[] = []
      for (const { repositoryId, vmFolder, backupId } of leftovers) {
        const row = (await repositoriesOfHost(catalog, dependencies.hostId)).find((candidate) => candidate.id === repositoryId)
        if (!row) continue
        await repositories.open(repositoryRecord(row)).discardBackup({ vmFolder, backupId })
        repairs.push({ kind: 'staged', what: `discarded the staging folder of ${backupId}, which nobody fills` })
      }
      return repairs
    },
  })
}

type Found = Omit<AbandonedWork, 'hostId' | 'repositoryId'>

/** Publication is the commit point: what has its final name is complete, whatever the row says. */
async function settleBackup(dependencies: HostDependencies, { id: backupId }: Found): Promise<Repair[]> {
  const { catalog, sourceOf } = dependencies
  const work = await loadBackupWork(catalog, backupId)
  if (work.job.status !== 'pending' && work.job.status !== 'running') return []
  const { repository, reference } = locateBackup(work, dependencies)
  // Asked first: this has a time limit wherever the repository lies, and an attempt that hangs there may hold its lock.
  await repository.storage()
  const source = await sourceOf(work.vm)
  const inUse = () => changeIdsInUseOf(catalog, work.vm.context_id)
  const published = await publishedManifest(repository, reference)
  if (published) {
    const { folder, manifest } = await repository.publishBackup(reference, published)
    await recordPublishedBackup(catalog, manifest, { id: repository.id, folder })
    await source.endSnapshot(work.vm.config, backupId, { outcome: 'published', changeIdsInUse: await inUse() }, {})
    const completed: Repair = { kind: 'backup', what: `completed ${backupId}: it was published before its workflow ended` }
    return [completed, ...(await lockCompleted(dependencies, work))]
  }
  const indexes = work.disks.map((disk) => disk.disk_index)
  await holdingDisks(backupId, indexes, async () => {
    await source.endSnapshot(work.vm.config, backupId, { outcome: 'abandoned', changeIdsInUse: await inUse() }, {})
    await repository.discardBackup(reference)
  })
  const message =
    'The workflow of this backup ended without finishing it (terminated, or lost with its server). What it had written was removed.'
  await endBackup(catalog, { backupId, state: 'failed', code: 'INTERNAL', message })
  return [{ kind: 'backup', what: `ended ${backupId} as failed and removed what it had written: its workflow is gone` }]
}

/** What cannot be locked now, the attestation locks. */
async function lockCompleted(dependencies: HostDependencies, work: BackupWork): Promise<Repair[]> {
  try {
    await lockWithChain(dependencies, work)
    return []
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    return [{ kind: 'unrepaired', what: `${work.job.id} could not be locked: ${error.message}` }]
  }
}

async function settleRestore(dependencies: HostDependencies, { id: restoreId }: Found): Promise<Repair[]> {
  const { catalog } = dependencies
  const ofVm = await findVmRestore(catalog, restoreId)
  if (ofVm) return settleVmRestore(dependencies, ofVm)
  const restore = await loadRestore(catalog, restoreId)
  if (restore.status !== 'pending' && restore.status !== 'running') return []
  await holdingRestore(restoreId, () => dependencies.repositories.targets.discardRestore(restore.target_path, restoreId))
  const message = `The workflow of this restore ended without finishing it. ${await describeTarget(restore.target_path)}`
  await endRestore(catalog, { restoreId, state: 'failed', code: 'INTERNAL', message })
  return [{ kind: 'restore', what: `ended restore ${restoreId} as failed: its workflow is gone` }]
}

/** A target gets its name only when it is complete, but a file of this name may also be somebody else's. */
async function describeTarget(path: string): Promise<string> {
  const exists = await lstat(path).then(
    () => true,
    () => false,
  )
  return exists
    ? `The file "${path}" exists; if the restore wrote it, it is complete. Restore again to be sure.`
    : 'The unfinished target was removed.'
}

/** Files still there: the deletion never began, and the mark is taken back. Files gone: what is left to do is to forget the backup. */
async function settleDeletion(dependencies: HostDependencies, { id: backupId, markedAt }: Found): Promise<Repair[]> {
  const { catalog } = dependencies
  // A deletion that began since it was looked for has set the mark anew, and needs it.
  const marks = (await listDeletionMarks(catalog, backupId)).filter((mark) => mark.created_at.toISOString() === markedAt)
  if (marks.length === 0) return []
  const work = await loadBackupWork(catalog, backupId)
  const { repository, reference } = locateBackup(work, dependencies)
  await repository.storage()
  if (await publishedManifest(repository, reference)) {
    for (const mark of marks) await removeObservedPin(catalog, mark)
    return [
      { kind: 'deletion', what: `took back the deletion mark of ${backupId}: its workflow ended before the files were touched` },
    ]
  }
  await repository.deleteBackup(reference)
  await recordDeletedBackup(catalog, backupId)
  return [{ kind: 'deletion', what: `finished the deletion of ${backupId}: its files were gone already` }]
}

/** Nothing found when it is not its turn. */
async function inspectInItsTurn(
  dependencies: HostDependencies,
  row: Awaited<ReturnType<typeof repositoriesOfHost>>[number],
  nextSweepAt: Map<string, number>,
): Promise<HostFindings> {
  const began = Date.now()
  if (began < (nextSweepAt.get(row.id) ?? 0)) return { repairs: [], leftovers: [] }
  // Nobody else begins while this runs, not even the next attempt at this step.
  nextSweepAt.set(row.id, Number.POSITIVE_INFINITY)
  try {
    return await inspectRepository(dependencies, repositoryRecord(row))
  } finally {
    nextSweepAt.set(row.id, Date.now() + (Date.now() - began) / SWEEP_SHARE)
  }
}

async function inspectRepository({ catalog, repositories }: HostDependencies, record: RepositoryRecord): Promise<HostFindings> {
  try {
    const repository = repositories.open(record)
    // Rows first: a backup published after this is unknown to neither.
    const before = await knownBackups(catalog, repository.id)
    const listing = await repository.listBackups()
    const after = await knownBackups(catalog, repository.id)
    const unfinished = new Set(['pending', 'running'])
    const leftovers = listing.staged
      .filter(({ backupId }) => !unfinished.has(after.get(backupId) ?? ''))
      .map(({ vmFolder, backupId }) => ({ repositoryId: repository.id, vmFolder, backupId }))
    const published = new Set([...listing.backups, ...listing.damaged].map(({ backupId }) => backupId))
    const unknown = [...published].filter((backupId) => !after.has(backupId))
    const missing = [...before].filter(
      ([id, state]) => state === 'completed' && after.get(id) === 'completed' && !published.has(id),
    )
    const repairs = [
      ...reports(unknown, `in repository ${repository.id} but not in the catalog`),
      ...reports(
        missing.map(([id]) => id),
        `in the catalog but not in repository ${repository.id}`,
      ),
      ...reports(
        listing.damaged.map(({ backupId, reason }) => `${backupId} (${reason})`),
        `damaged in repository ${repository.id}`,
      ),
    ]
    return { repairs, leftovers }
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    // One repository's trouble must not hide the others'; a failed listing never counts as an empty one.
    return {
      repairs: [{ kind: 'unrepaired', what: `repository ${record.id} could not be looked through: ${error.message}` }],
      leftovers: [],
    }
  }
}

const REPORTED_MAX = 10

function reports(names: string[], where: string): Repair[] {
  if (names.length === 0) return []
  const more = names.length > REPORTED_MAX ? ` and ${names.length - REPORTED_MAX} more` : ''
  return [{ kind: 'report', what: `${names.slice(0, REPORTED_MAX).join(', ')}${more}: ${where}. Nothing was changed.` }]
}
