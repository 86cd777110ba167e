/** Looks at a place for a repository, registered or not; changes nothing there that stays. */
import { CancellationScope } from '@temporalio/workflow'
import type { RepositoryFindings, TestRepositoryRequest } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { Compensations } from './compensation.ts'
import { endingWithCode } from './failure.ts'

export interface TestRepositoryInput extends TestRepositoryRequest {
  heartbeatTimeoutMs: number
}

/** What was found is noted in the catalog when the place is a registered repository; any other place is left again, however the test ends. */
export async function testRepository({
  heartbeatTimeoutMs,
  tryImmutability,
  ...repository
}: TestRepositoryInput): Promise<RepositoryFindings> {
  const control = controlSteps()
  const host = interactiveHostSteps({ hostId: repository.hostId, heartbeatTimeoutMs })
  const { repositoryId, credentialsId } = repository
  const leave = new Compensations()
  return endingWithCode(async () => {
    try {
      if (credentialsId) leave.add('discard the credentials', () => control.discardCredentials(credentialsId))
      if (!(await control.isRegistered(repositoryId))) leave.add('forget the place', () => host.forgetRepository(repository))
      await host.mountRepository(repository)
      const storage = await host.probeRepository(repository)
      const enforcement = tryImmutability === true ? await host.probeImmutability(repository) : null
      await control.recordStorage({ repositoryId, storage })
      return { storage, enforcement }
    } finally {
      await CancellationScope.nonCancellable(() => leave.run())
    }
  })
}
