/** Reaches a platform where its mover is, then records the connection. */
import type { PlatformInfo } from '../sources/source.ts'
import type { SourceRequest } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { endingWithCode } from './failure.ts'
import { keepingCredentials } from './stored-credentials.ts'

export interface RegisterSourceInput extends SourceRequest {
  heartbeatTimeoutMs: number
}

/** A name or platform that is taken is refused before anything is reached. Nothing is recorded when the mover cannot reach the platform. */
export async function registerSource({ heartbeatTimeoutMs, ...source }: RegisterSourceInput): Promise<PlatformInfo> {
  return endingWithCode(() =>
    keepingCredentials(source.credentialsId, async () => {
      const control = controlSteps()
      await control.checkSourceIsNew(source)
      const found = await interactiveHostSteps({ hostId: source.hostId, heartbeatTimeoutMs }).probeSettings(source)
      await control.recordSource({ ...source, found })
      return found
    }),
  )
}
