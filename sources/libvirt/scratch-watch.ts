/**
 * Looking after the scratch space of running backups. A backup that would fill it is given up in time: a backup can be made again, the guest's
 * writes cannot.
 */
import { HoldfastError } from '../../domain/errors.ts'
import { abortJob, runningJob, snapshotIdOf } from './backup-job.ts'
import type { DomainContext } from './domain-context.ts'

const WATCH_MS = 1_000
/** Behind SSH every look is a login. */
const WATCH_BEHIND_SSH_MS = 5_000
/** How often the watch asks whether the job it guards is still there. */
const LOOK_EVERY = 30

export interface WatchedSnapshot {
  snapshotId: string
  backupId: string
  floorBytes: number
}

/** Of this process, by snapshot id: whoever begins or opens a snapshot makes sure that it is watched. */
const watches = new Map<string, NodeJS.Timeout>()
/** Why a snapshot was given up; the reads that failed by that ask here. A few words for each: never cleaned. */
const givenUp = new Map<string, HoldfastError>()

/** Begins to watch, unless this snapshot is watched. The watch ends with the snapshot's job, or by {@link stopWatching}. */
export function watchScratch(
  domain: Pick<DomainContext, 'connection' | 'host' | 'uuid'>,
  watched: WatchedSnapshot,
  intervalMs = domain.connection.uri.transport === 'ssh' ? WATCH_BEHIND_SSH_MS : WATCH_MS,
): void {
  const { snapshotId } = watched
  if (watches.has(snapshotId)) return
  let looks = 0
  const look = async (): Promise<void> => {
    looks += 1
    try {
      const freeBytes = await domain.host.freeBytes(domain.connection.scratchFolder)
      const low = freeBytes < watched.floorBytes
      if ((low || looks % LOOK_EVERY === 0) && !(await isRunning(domain, snapshotId))) return stopWatching(snapshotId)
      if (low) {
        givenUp.set(snapshotId, scratchFull(domain.connection.scratchFolder, freeBytes, watched.floorBytes))
        await abortJob(domain, watched.backupId, {})
        return stopWatching(snapshotId)
      }
    } catch {
      // A host or libvirt that does not answer now is asked again: giving up the watch would leave the guest alone with a full disk.
    }
    if (watches.has(snapshotId)) watches.set(snapshotId, later(look, intervalMs))
  }
  watches.set(snapshotId, later(look, intervalMs))
}

export function stopWatching(snapshotId: string): void {
  clearTimeout(watches.get(snapshotId))
  watches.delete(snapshotId)
}

/** Why this snapshot was given up by the watch of this process; `null` when it was not. */
export function reasonGivenUp(snapshotId: string): HoldfastError | null {
  return givenUp.get(snapshotId) ?? null
}

/** Nothing stays alive for it. */
function later(look: () => Promise<void>, intervalMs: number): NodeJS.Timeout {
  return setTimeout(() => void look(), intervalMs).unref()
}

async function isRunning(domain: Pick<DomainContext, 'connection' | 'uuid'>, snapshotId: string): Promise<boolean> {
  try {
    const job = await runningJob(domain, {})
    return job !== null && snapshotIdOf(job) === snapshotId
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'SOURCE_NOT_FOUND') return false
    throw error
  }
}

function scratchFull(folder: string, availableBytes: number, floorBytes: number): HoldfastError {
  return new HoldfastError(
    'INSUFFICIENT_STORAGE',
    `The backup was given up because the scratch folder "${folder}" of the hypervisor had only ${availableBytes} bytes left, and the VM must go on writing. Make room, or give the source connection another "scratch_folder".`,
    { details: { folder, required_bytes: floorBytes, available_bytes: availableBytes } },
  )
}
