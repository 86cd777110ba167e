/**
 * Repairs what no running workflow owns any more: rows, pins, staged folders, sockets and remains on hypervisors that a crash, a
 * terminated workflow or a restored catalog left. Runs at start and every few minutes; a run that finds nothing changes nothing.
 */
import { log, setCurrentDetails } from '@temporalio/workflow'
import type { Repair } from '../activities/reconciliation.ts'
import { controlSteps, platformSteps, interactiveHostSteps } from './activity-options.ts'
import { asApplicationFailure, failureOf } from './failure.ts'

export interface ReconcileInput {
  heartbeatTimeoutMs: number
}

/** What was found and done, for the Web UI and the log. Hosts that did not answer are repaired in a later run. */
export async function reconcile({ heartbeatTimeoutMs }: ReconcileInput): Promise<Repair[]> {
  const control = controlSteps()
  const { abandoned, hostIds } = await control.findAbandonedWork()
  const repairs: Repair[] = []
  for (const { hostId, ...work } of abandoned) {
    const host = interactiveHostSteps({ hostId, heartbeatTimeoutMs })
    repairs.push(...(await attempt(hostId, () => host.settleAbandoned(work))))
  }
  repairs.push(...(await control.removeAbandonedPins()), ...(await control.removeUnusedCredentials()))
  for (const hostId of hostIds) {
    const host = interactiveHostSteps({ hostId, heartbeatTimeoutMs })
    repairs.push(...(await attempt(hostId, () => sweepHost(host, hostId))))
    const platforms = platformSteps({ hostId, heartbeatTimeoutMs })
    repairs.push(...(await attempt(hostId, () => platforms.removeSourceOrphans(hostId))))
  }
  for (const repair of repairs) log.warn(`Reconcile: ${repair.what}`, { ...repair })
  setCurrentDetails(repairs.map((repair) => `- ${repair.what}`).join('\n') || 'Nothing to repair')
  return repairs
}

/** Folders are discarded only after Temporal was asked: the host alone cannot know who fills them. */
async function sweepHost(host: ReturnType<typeof interactiveHostSteps>, hostId: string): Promise<Repair[]> {
  const { repairs, leftovers } = await host.inspectHost(hostId)
  if (leftovers.length === 0) return repairs
  const free = await controlSteps().withoutOwner(leftovers)
  return free.length === 0 ? repairs : [...repairs, ...(await host.discardLeftovers(free))]
}

/** One host's trouble must not keep the others from being repaired; it is part of what was found. */
async function attempt(hostId: string, repair: () => Promise<Repair[]>): Promise<Repair[]> {
  try {
    return await repair()
  } catch (error) {
    const { code, message } = failureOf(error)
    if (code === 'CANCELLED') throw asApplicationFailure({ code, message, details: {} }, error)
    return [{ kind: 'unrepaired', what: `host ${hostId} could not be repaired (${code}): ${message}` }]
  }
}
