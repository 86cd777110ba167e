/** Makes a place a repository, records it, and has its mover begin to serve it. */
import type { StorageInfo } from '../domain/storage.ts'
import type { RepositoryRequest } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { endingWithCode } from './failure.ts'

export interface RegisterRepositoryInput extends RepositoryRequest {
  heartbeatTimeoutMs: number
}

/** A name or place that is taken is refused before the place is touched. */
export async function registerRepository(input: RegisterRepositoryInput): Promise<StorageInfo> {
  return endingWithCode(async () => {
    const host = interactiveHostSteps(input)
    const control = controlSteps()
    await control.checkRepositoryIsNew(input)
    const storage = await host.initializeRepository(input)
    await control.recordRepository({ ...input, storage })
    await host.attachRepository(input.repositoryId)
    return storage
  })
}
