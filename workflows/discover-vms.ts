/** Finds the VMs of a source and brings their contexts up to date. Its workflow id keeps two looks at one platform from mixing. */
import { setCurrentDetails } from '@temporalio/workflow'
import type { Discovery, SourceOfHost } from '../temporal/operations.ts'
import { platformSteps } from './activity-options.ts'
import { endingWithCode } from './failure.ts'
import { notingFailure } from './source-state.ts'

export interface DiscoverVmsInput extends SourceOfHost {
  heartbeatTimeoutMs: number
}

/** VMs that are gone are marked, never deleted, and only by a listing that was complete. */
export async function discoverVms({ sourceId, ...patience }: DiscoverVmsInput): Promise<Discovery> {
  return endingWithCode(async () => {
    const discovery = await notingFailure(sourceId, () => platformSteps(patience).discoverVms(sourceId))
    const { found, added, updated, vanished, problemCount } = discovery
    setCurrentDetails(`${found} VMs: ${added} new, ${updated} changed, ${vanished} vanished, ${problemCount} with problems`)
    return discovery
  })
}
