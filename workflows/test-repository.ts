/** Looks at a place for a repository, registered or not; changes nothing there that stays. */
import type { StorageInfo } from '../domain/storage.ts'
import type { RepositoryRequest } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { endingWithCode } from './failure.ts'

export interface TestRepositoryInput extends RepositoryRequest {
  heartbeatTimeoutMs: number
}

/** What was found is noted in the catalog when the place is a registered repository. */
export async function testRepository(input: TestRepositoryInput): Promise<StorageInfo> {
  return endingWithCode(async () => {
    const storage = await interactiveHostSteps(input).probeRepository(input)
    await controlSteps().recordStorage({ repositoryId: input.repositoryId, storage })
    return storage
  })
}
