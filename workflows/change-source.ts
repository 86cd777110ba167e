/** Reaches a platform with a source's new settings; only then do they replace the old ones. */
import type { PlatformInfo } from '../sources/source.ts'
import type { SourceRequest } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { endingWithCode } from './failure.ts'
import { keepingCredentials } from './stored-credentials.ts'

export interface ChangeSourceInput extends SourceRequest {
  heartbeatTimeoutMs: number
}

/** Until the new settings are recorded the source works as before, and when they are refused it goes on doing so. */
export async function changeSource({ heartbeatTimeoutMs, ...source }: ChangeSourceInput): Promise<PlatformInfo> {
  return endingWithCode(() =>
    keepingCredentials(source.credentialsId, async () => {
      const control = controlSteps()
      await control.checkSourceIsNew(source)
      const found = await interactiveHostSteps({ hostId: source.hostId, heartbeatTimeoutMs }).probeSettings(source)
      await control.recordSourceChange({ ...source, found })
      return found
    }),
  )
}
