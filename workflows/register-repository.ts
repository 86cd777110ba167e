/** Makes a place a repository, tests it, records it, and has its mover begin to serve it. */
import type { RegisterRepositoryRequest, RepositoryFindings } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { undoingFailures } from './compensation.ts'
import { endingWithCode } from './failure.ts'
import { requireEnforcement } from './repository-enforcement.ts'
import { keepingCredentials } from './stored-credentials.ts'

export interface RegisterRepositoryInput extends RegisterRepositoryRequest {
  heartbeatTimeoutMs: number
}

/** A name or place that is taken is refused before the place is touched; whatever is refused later leaves the place as it was. */
export async function registerRepository({
  heartbeatTimeoutMs,
  ...repository
}: RegisterRepositoryInput): Promise<RepositoryFindings> {
  const host = interactiveHostSteps({ hostId: repository.hostId, heartbeatTimeoutMs })
  return endingWithCode(() =>
    keepingCredentials(repository.credentialsId ?? null, async () => {
      const control = controlSteps()
      await control.checkRepositoryIsNew(repository)
      const findings = await undoingFailures(async (undo) => {
        undo.add('forget the place', () => host.forgetRepository(repository))
        await host.mountRepository(repository)
        undo.add('clear the place', () => host.clearRepository(repository))
        const storage = await host.initializeRepository(repository)
        const enforcement = await requireEnforcement(host, repository, repository.settings?.immutability)
        await control.recordRepository({ ...repository, findings: { storage, enforcement } })
        return { storage, enforcement }
      })
      await host.attachRepository(repository.repositoryId)
      return findings
    }),
  )
}
