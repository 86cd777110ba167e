/** Changes a repository. What must be tried at its place is tried before anything is recorded. */
import type { ChangeRepositoryRequest, RepositoryRequest } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { undoingFailures } from './compensation.ts'
import { endingWithCode } from './failure.ts'
import { requireEnforcement } from './repository-enforcement.ts'
import { keepingCredentials } from './stored-credentials.ts'

export interface ChangeRepositoryInput extends ChangeRepositoryRequest {
  heartbeatTimeoutMs: number
}

type Host = ReturnType<typeof interactiveHostSteps>

/** Until the change is recorded the repository works as before, and when it is refused it goes on doing so. */
export async function changeRepository({ heartbeatTimeoutMs, ...change }: ChangeRepositoryInput): Promise<void> {
  const control = controlSteps()
  const host = interactiveHostSteps({ hostId: change.hostId, heartbeatTimeoutMs })
  await endingWithCode(() =>
    keepingCredentials(change.place?.credentialsId ?? null, async () => {
      const before = await control.checkRepositoryChange(change)
      const now = { ...before, ...change.place }
      await undoingFailures(async (undo) => {
        if (change.place) {
          await leaveForPlace(host, before, change.place)
          undo.add('leave the new place', () => host.forgetRepository(now))
        }
        const enforcement = await requireEnforcement(host, now, change.settings?.immutability)
        await control.recordRepositoryChange({ ...change, enforcement })
      })
      if (change.place) await reachAgain(host, now)
    }),
  )
}

/** The other place must be good and hold this repository before it is let go of where it is. `REPO_IN_USE` while somebody works on it. */
async function leaveForPlace(
  host: Host,
  before: RepositoryRequest,
  place: NonNullable<ChangeRepositoryInput['place']>,
): Promise<void> {
  await host.checkMovedRepository({ repository: before, place })
  await host.unmountRepository({ repository: before, force: false })
  await host.forgetRepository(before)
}

/** It was reached a moment ago. If it is not now, the next use or the next look tries again. */
async function reachAgain(host: Host, repository: RepositoryRequest): Promise<void> {
  await host.mountRepository(repository).catch(() => undefined)
}
