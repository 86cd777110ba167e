/**
 * Looks whether what was locked still is, in one repository or in all. What is not is locked again, and an alert says so: whoever took a
 * lock off is not stopped by that, but seen.
 */
import { log, setCurrentDetails } from '@temporalio/workflow'
import type { Attestation } from '../domain/immutability.ts'
import type { RepositoryOfHost } from '../temporal/operations.ts'
import { controlSteps, platformSteps } from './activity-options.ts'
import { endingWithCode, failureOf } from './failure.ts'
import type { FailureReport } from './failure.ts'

export interface AttestLocksInput {
  /** Absent: every repository that has locks. */
  repository?: RepositoryOfHost
  heartbeatTimeoutMs: number
}

/** Of each repository what was found, or why nothing could be. */
export type AttestedRepository = { repositoryId: string } & ({ attestation: Attestation } | { failure: FailureReport })

/** Fails only when it was asked about one repository, and that one cannot be looked at. */
export async function attestLocks({ repository, heartbeatTimeoutMs }: AttestLocksInput): Promise<AttestedRepository[]> {
  const attest = ({ hostId, repositoryId }: RepositoryOfHost) =>
    platformSteps({ hostId, heartbeatTimeoutMs }).attestLocks(repositoryId)
  return endingWithCode(async () => {
    if (repository) return [{ repositoryId: repository.repositoryId, attestation: await attest(repository) }]
    const repositories = await controlSteps().listRepositoriesWithLocks()
    const attested = await Promise.all(repositories.map((one) => attestOne(one.repositoryId, () => attest(one))))
    setCurrentDetails(attested.map(describe).join('\n') || 'Nothing is locked')
    return attested
  })
}

/** One repository's trouble must not keep the others from being looked at. */
async function attestOne(repositoryId: string, attest: () => Promise<Attestation>): Promise<AttestedRepository> {
  try {
    const attestation = await attest()
    if (attestation.broken.length > 0) log.warn('Locks were not as they should be', { repositoryId, ...attestation })
    return { repositoryId, attestation }
  } catch (error) {
    const failure = failureOf(error)
    if (failure.code === 'CANCELLED') throw error
    log.warn('Locks could not be looked at', { repositoryId, ...failure })
    return { repositoryId, failure }
  }
}

function describe(attested: AttestedRepository): string {
  if ('failure' in attested) return `- \`${attested.repositoryId}\`: ${attested.failure.code}: ${attested.failure.message}`
  const { checked, broken } = attested.attestation
  return `- \`${attested.repositoryId}\`: ${checked} locked backups, ${broken.length} of them were not`
}
