/** Which repositories take no new backups, and what whoever asks is told. Backups that are running already are another matter. */
import { HoldfastError } from './errors.ts'
import { usedPercentage } from './storage-health.ts'
import type { HealthState } from './storage-health.ts'

/** As the catalog has it. */
export interface RepositoryStanding {
  id: string
  name: string
  enabled: boolean
  stopped_at: Date | null
  health: HealthState
  health_message: string | null
  used_size_bytes: number
  available_size_bytes: number
}

/** What people decided, and what looks at it found. `REPO_DISABLED`, `REPO_CRITICAL`, `REPO_UNAVAILABLE`. */
export function refuseUnlessReady(repository: RepositoryStanding): void {
  refuseUnlessOpen(repository)
  if (repository.health === 'offline') throw offline(repository, repository.health_message)
}

/** The same without asking whether it can be reached, for those who will see. `REPO_DISABLED`, `REPO_CRITICAL`. */
export function refuseUnlessOpen(repository: RepositoryStanding): void {
  const { id, name, enabled, stopped_at: stoppedAt, health_message: reason } = repository
  if (!enabled) {
    throw new HoldfastError('REPO_DISABLED', `Repository "${name}" is switched off: enable it, or choose another one.`, {
      details: { repository_id: id },
    })
  }
  if (stoppedAt === null) return
  const used = usedPercentage({ usedBytes: repository.used_size_bytes, availableBytes: repository.available_size_bytes })
  throw new HoldfastError(
    'REPO_CRITICAL',
    `Repository "${name}" takes no new backups: ${reason ?? `${used} % of its space is used.`}`,
    { details: { repository_id: id, used_percentage: used, stopped_at: stoppedAt.toISOString() } },
  )
}

/** Not for Temporal to try again: a backup that waits for a repository that may never come back helps nobody. */
export function offline({ id, name }: Pick<RepositoryStanding, 'id' | 'name'>, reason: string | null): HoldfastError {
  const message = `Repository "${name}" cannot be reached: ${reason ?? 'the last look at it got no answer.'}`
  return new HoldfastError('REPO_UNAVAILABLE', message, { details: { repository_id: id }, retryable: false })
}
