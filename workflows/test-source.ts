/** Looks whether a source's platform can be reached, and notes the answer. */
import type { PlatformInfo } from '../sources/source.ts'
import type { SourceOfHost } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { endingWithCode } from './failure.ts'
import { notingFailure } from './source-state.ts'

export interface TestSourceInput extends SourceOfHost {
  heartbeatTimeoutMs: number
}

export async function testSource({ sourceId, ...patience }: TestSourceInput): Promise<PlatformInfo> {
  return endingWithCode(() =>
    notingFailure(sourceId, async () => {
      const found = await interactiveHostSteps(patience).probeSource(sourceId)
      await controlSteps().recordSourceReached({ sourceId, found })
      return found
    }),
  )
}
