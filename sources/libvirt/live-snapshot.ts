/** Snapshots of a running domain: a backup job in pull mode, in which QEMU keeps and serves the disks as they were when it began. */
import { HoldfastError } from '../../domain/errors.ts'
import type { OpenDisk, Snapshot, SnapshotDisk, SnapshotEnd, SnapshotRequest, SourceDisk } from '../source.ts'
import { abortJob, EXPORT_BITMAP, refuseForeignJob, runningJob, snapshotIdOf, type BackupJob } from './backup-job.ts'
import { beginJob } from './begin-job.ts'
import { deleteCheckpointOf, deleteUnused, disksOfCheckpoint } from './checkpoints.ts'
import { consistencyOf, freezeWarnings } from './consistency.ts'
import { inspectDisks, type InspectedDisk } from './describe.ts'
import type { DomainContext } from './domain-context.ts'
import { checkpointName } from './names.ts'
import { removeScratchFiles, requireScratchSpace, scratchFloorBytes } from './scratch.ts'
import { reasonGivenUp, stopWatching, watchScratch } from './scratch-watch.ts'
import { withoutUntracked } from './untracked.ts'
import { vmConfigOf } from './vm-config.ts'

interface Options {
  signal?: AbortSignal | undefined
}

/** Whether a snapshot is one of these. */
export function isLive(snapshot: Snapshot): boolean {
  return snapshot.id.startsWith('live:')
}

/** See {@link Source.beginSnapshot}. */
export async function beginLive(context: DomainContext, request: SnapshotRequest, options: Options): Promise<Snapshot> {
  const { backupId } = request
  const found = await runningJob(context, options)
  await refuseForeignJob(context, found, backupId, options)
  const inspected = await inspectDisks(context, options)
  const disks = inspected.map(({ disk }) => disk)
  const tracking = withBitmapsOf(inspected, context)
  const tracked = await withoutUntracked(tracking, request, options)
  if (found && isAsked(found, context, tracked)) return snapshotOf(context, found, { disks, thawed: true }, options)
  await discardLive(context, backupId, options)
  await requireScratchSpace(context, disks)
  try {
    const { thawed } = await beginJob(tracking, tracked, options)
    const job = await runningJob(context, options)
    if (job?.backupId !== backupId) throw ended(`live:${backupId}`, 'its backup job ended at once')
    return await snapshotOf(context, job, { disks, thawed }, options)
  } catch (error) {
    // Without the caller's signal: it may be what stopped us.
    await discardLive(context, backupId, {}).catch(() => undefined)
    throw error
  }
}

function withBitmapsOf(inspected: readonly InspectedDisk[], context: DomainContext): DomainContext {
  const included = context.included.map((disk) => ({ ...disk, keepsBitmaps: inspected[disk.index]?.keepsBitmaps ?? false }))
  return { ...context, included }
}

/** Whether a job that runs for this backup already froze the disks that are asked for, and tells changes since the same points. */
function isAsked(job: BackupJob, { included }: DomainContext, { parentChangeIds }: SnapshotRequest): boolean {
  return (
    job.disks.length === included.length &&
    included.every(({ target }) => {
      const disk = job.disks.find((candidate) => candidate.target === target)
      return disk !== undefined && disk.incrementalFrom === (parentChangeIds[target] ?? null)
    })
  )
}

async function snapshotOf(
  context: DomainContext,
  job: BackupJob,
  { disks, thawed }: { disks: SourceDisk[]; thawed: boolean },
  options: Options,
): Promise<Snapshot> {
  const { backupId, facts } = job
  const id = snapshotIdOf(job)
  if (backupId === null || facts === null || id === null)
    throw new HoldfastError('INTERNAL', 'A foreign backup job was taken for ours.')
  watchScratch(context, { snapshotId: id, backupId, floorBytes: scratchFloorBytes(disks) })
  const name = checkpointName(backupId)
  const covered = await disksOfCheckpoint(context, name, options)
  const since = new Map(job.disks.map(({ target, incrementalFrom }) => [target, incrementalFrom]))
  const frozen = disks.map((disk): SnapshotDisk => ({
    ...disk,
    changeId: covered.has(disk.key) ? name : null,
    trackedSince: since.get(disk.key) ?? null,
  }))
  return {
    id,
    takenAt: facts.takenAt.toISOString(),
    ...consistencyOf(facts.outcome),
    disks: frozen,
    vmConfig: await vmConfigOf(context, disks, options),
    warnings: freezeWarnings(facts.outcome, thawed),
  }
}

/** See {@link Source.openDisk}: QEMU serves all disks on one socket of its host. */
export async function openLive(
  context: DomainContext,
  snapshot: Snapshot,
  diskIndex: number,
  options: Options & { runFolder: string },
): Promise<OpenDisk> {
  const frozen = snapshot.disks.find(({ index }) => index === diskIndex)
  if (!frozen) throw ended(snapshot.id, `it has no disk ${diskIndex}`)
  const { job, socketPath, backupId } = await jobOf(context, snapshot, options)
  const served = job.disks.find(({ target }) => target === frozen.key)
  if (!served) throw ended(snapshot.id, `its backup job does not serve disk ${frozen.key}`)
  watchScratch(context, { snapshotId: snapshot.id, backupId, floorBytes: scratchFloorBytes(snapshot.disks) })
  const reached = await context.host.reach(socketPath, options)
  let closing: Promise<void> | undefined
  const close = async (): Promise<void> => {
    await reached.close()
    await jobOf(context, snapshot, {})
  }
  return {
    endpoint: { type: 'unix', path: reached.path, exportName: served.exportName },
    sizeBytes: frozen.sizeBytes,
    changes:
      served.incrementalFrom === null
        ? { type: 'compare-hashes' }
        : { type: 'dirty-bitmap', metaContext: `qemu:dirty-bitmap:${EXPORT_BITMAP}` },
    close: () => (closing ??= close()),
  }
}

/** `SOURCE_CHANGED` when this very job is gone; `INSUFFICIENT_STORAGE` when we ended it for want of space. */
async function jobOf(
  context: DomainContext,
  snapshot: Snapshot,
  options: Options,
): Promise<{ job: BackupJob; socketPath: string; backupId: string }> {
  const job = await runningJob(context, options).catch((error: unknown) => {
    if (error instanceof HoldfastError && error.code === 'SOURCE_NOT_FOUND') throw ended(snapshot.id, 'the VM is gone', error)
    throw error
  })
  const givenUp = reasonGivenUp(snapshot.id)
  if (givenUp) throw givenUp
  if (!job || snapshotIdOf(job) !== snapshot.id || job.socketPath === null || job.backupId === null) {
    stopWatching(snapshot.id)
    throw ended(snapshot.id, 'its backup job no longer runs: the VM was stopped or crashed, or somebody ended the job')
  }
  return { job, socketPath: job.socketPath, backupId: job.backupId }
}

/** See {@link Source.endSnapshot}. */
export async function endLive(context: DomainContext, backupId: string, end: SnapshotEnd, options: Options): Promise<void> {
  if (end.outcome === 'abandoned') return discardLive(context, backupId, options)
  await endJob(context, backupId, options)
  await deleteUnused(context, new Set([...end.changeIdsInUse, checkpointName(backupId)]), options)
}

/** The domain as it was before the backup. Also what a dead attempt at this backup left: a checkpoint without a job. */
async function discardLive(context: DomainContext, backupId: string, options: Options): Promise<void> {
  await endJob(context, backupId, options)
  await deleteCheckpointOf(context, backupId, options)
}

async function endJob(context: DomainContext, backupId: string, options: Options): Promise<void> {
  const job = await abortJob(context, backupId, options)
  const id = job && snapshotIdOf(job)
  if (id !== null) stopWatching(id)
  await removeScratchFiles(context, backupId)
}

/** The snapshot is gone; the backup must begin again with another one. */
export function ended(snapshotId: string, reason: string, cause?: unknown): HoldfastError {
  return new HoldfastError(
    'SOURCE_CHANGED',
    `The snapshot ${snapshotId} no longer exists: ${reason}. The backup must start again.`,
    {
      cause,
      details: { snapshot_id: snapshotId, reason },
    },
  )
}
