/**
 * Repairs what no running workflow owns any more: rows, pins, staged folders, sockets and remains on hypervisors that a crash, a
 * terminated workflow or a restored catalog left. Runs at start and every few minutes; a run that finds nothing changes nothing.
 */
import { log, setCurrentDetails } from '@temporalio/workflow'
import type { AbandonedWork, Repair } from '../activities/reconciliation.ts'
import { parkedReasonOf } from '../domain/parking.ts'
import { controlSteps, platformSteps, interactiveHostSteps } from './activity-options.ts'
import type { HostPatience } from './activity-options.ts'
import { asApplicationFailure, failureOf } from './failure.ts'
import type { FailureReport } from './failure.ts'

export interface ReconcileInput {
  heartbeatTimeoutMs: number
}

/** What was found and done, for the Web UI and the log. Hosts and repositories that did not answer are repaired in a later run. */
export async function reconcile({ heartbeatTimeoutMs }: ReconcileInput): Promise<Repair[]> {
  const control = controlSteps()
  const { abandoned, hostIds } = await control.findAbandonedWork()
  // Side by side: what does not answer keeps nothing else waiting.
  const settled = await Promise.all(inTurns(abandoned).map((works) => settle(works, heartbeatTimeoutMs)))
  const repairs = settled.flat()
  repairs.push(...(await control.removeAbandonedPins()), ...(await control.removeUnusedCredentials()))
  const ofHosts = await Promise.all(hostIds.map((hostId) => repairHost({ hostId, heartbeatTimeoutMs })))
  repairs.push(...ofHosts.flat())
  for (const repair of repairs) log.warn(`Reconcile: ${repair.what}`, { ...repair })
  setCurrentDetails(repairs.map((repair) => `- ${repair.what}`).join('\n') || 'Nothing to repair')
  return repairs
}

/** What is settled one after another: that of one repository. Restores and mounts may hang elsewhere, so each is settled for itself. */
function inTurns(abandoned: readonly AbandonedWork[]): AbandonedWork[][] {
  const turns = new Map<string, AbandonedWork[]>()
  for (const work of abandoned) {
    const { kind, id, hostId, repositoryId } = work
    const key = kind === 'restore' || kind === 'mount' ? `${kind} ${id}` : `${hostId} ${repositoryId}`
    turns.set(key, [...(turns.get(key) ?? []), work])
  }
  return [...turns.values()]
}

/** A repository that does not answer, or a mover, would not answer for the rest either. */
async function settle(works: readonly AbandonedWork[], heartbeatTimeoutMs: number): Promise<Repair[]> {
  const repairs: Repair[] = []
  for (const { hostId, repositoryId, ...work } of works) {
    const host = interactiveHostSteps({ hostId, heartbeatTimeoutMs })
    const { found, failure } = await attempt(hostId, () => host.settleAbandoned(work))
    repairs.push(...found)
    if (failure && (failure.code === 'MOVER_UNAVAILABLE' || parkedReasonOf(failure) === 'repository_unavailable')) {
      log.warn('The rest of this repository has to wait', { hostId, repositoryId, code: failure.code })
      break
    }
  }
  return repairs
}

async function repairHost(patience: HostPatience): Promise<Repair[]> {
  const { hostId } = patience
  const swept = await attempt(hostId, () => sweepHost(interactiveHostSteps(patience), hostId))
  const tidied = await attempt(hostId, () => platformSteps(patience).removeSourceOrphans(hostId))
  return [...swept.found, ...tidied.found]
}

/** Folders are discarded only after Temporal was asked: the host alone cannot know who fills them. */
async function sweepHost(host: ReturnType<typeof interactiveHostSteps>, hostId: string): Promise<Repair[]> {
  const { repairs, leftovers } = await host.inspectHost(hostId)
  if (leftovers.length === 0) return repairs
  const free = await controlSteps().withoutOwner(leftovers)
  return free.length === 0 ? repairs : [...repairs, ...(await host.discardLeftovers(free))]
}

/** One host's trouble must not keep the others from being repaired; it is part of what was found. */
async function attempt(
  hostId: string,
  repair: () => Promise<Repair[]>,
): Promise<{ found: Repair[]; failure: FailureReport | null }> {
  try {
    return { found: await repair(), failure: null }
  } catch (error) {
    const failure = failureOf(error)
    const { code, message } = failure
    if (code === 'CANCELLED') throw asApplicationFailure({ code, message, details: {} }, error)
    return { found: [{ kind: 'unrepaired', what: `host ${hostId} could not be repaired (${code}): ${message}` }], failure }
  }
}
