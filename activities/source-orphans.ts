/** What backups that have ended left on the platforms of a host: jobs, checkpoints, scratch files. */
import { cancellationSignal } from '@temporalio/activity'
import { changeIdsInUseOfSource } from '../db/queries/change-ids.ts'
import { sourcesOfHost } from '../db/queries/sources.ts'
import type { SourceRow } from '../db/queries/sources.ts'
import { backupsOfSource } from '../db/queries/unfinished.ts'
import type { BackupState } from '../domain/backup.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { OrphanOwners } from '../sources/source.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'
import type { Repair } from './reconciliation.ts'
import { settingsOf } from './source-discovery.ts'

/** Asking every VM of a platform may take this part of the time at most. */
const SWEEP_SHARE = 0.01

export interface SourceOrphanActivities {
  /** Removes them from every source of the host. A source that cannot be looked through is reported. Idempotent. */
  removeSourceOrphans(hostId: string): Promise<Repair[]>
}

export function createSourceOrphanActivities({ catalog, openSource }: HostDependencies): SourceOrphanActivities {
  const nextSweepAt = new Map<string, number>()
  return guarded({
    async removeSourceOrphans(hostId: string): Promise<Repair[]> {
      const due = (await sourcesOfHost(catalog, hostId)).filter((source) => Date.now() >= (nextSweepAt.get(source.id) ?? 0))
      // Side by side: a platform that does not answer must not use up the others' time.
      return (await Promise.all(due.map(sweep))).flat()
    },
  })

  async function sweep(source: SourceRow): Promise<Repair[]> {
    const began = Date.now()
    // Nobody else begins while this runs, not even the next attempt at this step.
    nextSweepAt.set(source.id, Number.POSITIVE_INFINITY)
    try {
      return await removeOrphans(source)
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      return [{ kind: 'unrepaired', what: `source "${source.name}" could not be looked through: ${error.message}` }]
    } finally {
      nextSweepAt.set(source.id, Date.now() + (Date.now() - began) / SWEEP_SHARE)
    }
  }

  async function removeOrphans(source: SourceRow): Promise<Repair[]> {
    const { platform } = await openSource(settingsOf(source))
    if (!platform) return []
    // States first: a backup that completes in between is left alone, and one that begins is unknown.
    const states = await backupsOfSource(catalog, source.id)
    const owners = ownersOf(states, new Set(await changeIdsInUseOfSource(catalog, source.id)))
    const removed = await platform.removeOrphans(owners, { signal: cancellationSignal() })
    return removed.map((what) => ({ kind: 'orphan', what: `source "${source.name}": ${what}` }))
  }
}

export function ownersOf(states: ReadonlyMap<string, BackupState>, changeIdsInUse: ReadonlySet<string>): OrphanOwners {
  return {
    stateOf(backupId) {
      const state = states.get(backupId)
      if (state === undefined) return 'unknown'
      return state === 'pending' || state === 'running' ? 'running' : 'ended'
    },
    changeIdsInUse,
  }
}
