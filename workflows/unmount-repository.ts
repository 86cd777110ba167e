/** Unmounts the share of a registered repository. */
import type { MountState } from '../hosting/hosted-repository.ts'
import type { RepositoryOfHost } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { endingWithCode } from './failure.ts'

export interface UnmountRepositoryInput extends RepositoryOfHost {
  force: boolean
  heartbeatTimeoutMs: number
}

/** Without force it is refused while the catalog knows of work on it, or its mover does. */
export async function unmountRepository({ repositoryId, force, ...patience }: UnmountRepositoryInput): Promise<MountState> {
  return endingWithCode(async () => {
    const control = controlSteps()
    const repository = await control.readRepository(repositoryId)
    if (!force) await control.checkRepositoryUnused(repositoryId)
    return interactiveHostSteps(patience).unmountRepository({ repository, force })
  })
}
