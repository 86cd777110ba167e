/** Mounts the share of a registered repository. */
import type { MountState } from '../hosting/hosted-repository.ts'
import type { RepositoryOfHost } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { endingWithCode } from './failure.ts'

export interface MountRepositoryInput extends RepositoryOfHost {
  heartbeatTimeoutMs: number
}

export async function mountRepository({ repositoryId, ...patience }: MountRepositoryInput): Promise<MountState> {
  return endingWithCode(async () => {
    const repository = await controlSteps().readRepository(repositoryId)
    return interactiveHostSteps(patience).mountRepository(repository)
  })
}
