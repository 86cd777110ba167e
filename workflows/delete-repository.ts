/** Forgets a repository that holds no backup, and clears its folder so that it can be used again. */
import { CancellationScope, log } from '@temporalio/workflow'
import type { RemovedRepository, RepositoryOfHost, RepositoryRequest } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { endingWithCode, failureOf } from './failure.ts'

export interface DeleteRepositoryInput extends RepositoryOfHost {
  /** Also when its place does not answer. */
  force: boolean
  heartbeatTimeoutMs: number
}

type Host = ReturnType<typeof interactiveHostSteps>

/** The catalog forgets it first: from then on no backup can begin that the clearing would meet. What follows cannot be cancelled. */
export async function deleteRepository({
  repositoryId,
  hostId,
  force,
  heartbeatTimeoutMs,
}: DeleteRepositoryInput): Promise<RemovedRepository> {
  const control = controlSteps()
  const host = interactiveHostSteps({ hostId, heartbeatTimeoutMs })
  return endingWithCode(async () => {
    const repository = await control.readRepository(repositoryId)
    await control.checkRepositoryDeletable(repositoryId)
    const reach = await reachPlace(host, repository, force)
    return CancellationScope.nonCancellable(async () => {
      await control.removeRepository(repositoryId)
      const cleared = reach === 'place' && (await tried('clear its folder', () => host.clearRepository(repository)))
      if (reach !== 'nothing') await tried('forget its place', () => host.forgetRepository(repository))
      if (repository.credentialsId) await control.discardCredentials(repository.credentialsId)
      return { cleared: cleared === true }
    })
  })
}

/** How far we get: to the place, only to its mover, or to neither. Whoever does not force it hears why instead. */
async function reachPlace(host: Host, repository: RepositoryRequest, force: boolean): Promise<'place' | 'mover' | 'nothing'> {
  try {
    await host.probeRepository(repository)
    return 'place'
  } catch (error) {
    if (!force) throw error
    return failureOf(error).code === 'MOVER_UNAVAILABLE' ? 'nothing' : 'mover'
  }
}

/** The repository is gone from the catalog; what cannot be done any more is left lying, and said. */
async function tried<T>(what: string, step: () => Promise<T>): Promise<T | undefined> {
  try {
    return await step()
  } catch (error) {
    log.warn(`Could not ${what}`, { error: String(error) })
    return undefined
  }
}
