/**
 * Looks at every repository, all at the same time, and records what each look found as soon as it is over: a dead share holds up nothing but
 * itself. Runs every few minutes, and whenever somebody wants to know now.
 */
import { log, setCurrentDetails } from '@temporalio/workflow'
import type { RecordedLook, RepositoryOfHost } from '../db/queries/repository-health.ts'
import type { StorageLook } from '../domain/storage-health.ts'
import type { OfflineRepository, StorageRefresh } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps, lookSteps } from './activity-options.ts'
import { endingWithCode, failureOf, isCancelled } from './failure.ts'

export interface MonitorStorageInput {
  /** One alone; all without. */
  repositoryId?: string
  /** How long it is waited for a mover that does not run: it may only be restarting. */
  moverPatienceMs: number
  heartbeatTimeoutMs: number
}

/** Named in the result at most; all are counted. */
const NAMED_MAX = 20

export async function monitorStorage({ repositoryId, ...patience }: MonitorStorageInput): Promise<StorageRefresh> {
  return endingWithCode(async () => {
    const control = controlSteps()
    const repositories = await control.listRepositoriesToLookAt(repositoryId ?? null)
    const looks = await Promise.all(repositories.map((repository) => lookAndRecord(repository, patience)))
    if (repositoryId === undefined) await control.pruneMonitoring()
    const offline = looks.filter((look) => look !== null)
    setCurrentDetails(`${looks.length - offline.length} reached, ${offline.length} offline`)
    return {
      refreshedCount: looks.length - offline.length,
      failedCount: offline.length,
      offline: offline.slice(0, NAMED_MAX),
    }
  })
}

/** Why it could not be reached; `null` when it was. */
async function lookAndRecord(
  repository: RepositoryOfHost,
  patience: Omit<MonitorStorageInput, 'repositoryId'>,
): Promise<OfflineRepository | null> {
  const look = await lookAt(repository, patience)
  const recorded = await controlSteps().recordLook({ repositoryId: repository.id, look })
  if (recorded) tell(recorded)
  else if (look.reached || look.code !== 'MOVER_UNAVAILABLE') await leaveBehind(repository, patience.heartbeatTimeoutMs)
  if (look.reached) return null
  return { repositoryId: repository.id, code: look.code, message: look.message }
}

/** Deleted during the look, which may have mounted it again behind the deletion. What cannot be unmounted now, the mover's next start unmounts. */
async function leaveBehind({ id, hostId, ...record }: RepositoryOfHost, heartbeatTimeoutMs: number): Promise<void> {
  const repository = { ...record, repositoryId: id, name: id, hostId }
  try {
    await interactiveHostSteps({ hostId, heartbeatTimeoutMs }).forgetRepository(repository)
  } catch (error) {
    if (isCancelled(error)) throw error
    log.warn('A repository that was deleted during a look may still be mounted', { repositoryId: id, error: String(error) })
  }
}

/** Where nobody could look, nobody could use it either: the repository is as good as away, and its message says why. */
async function lookAt(
  { hostId, ...record }: RepositoryOfHost,
  patience: Omit<MonitorStorageInput, 'repositoryId'>,
): Promise<StorageLook> {
  try {
    return await lookSteps({ hostId, ...patience }).lookAtRepository(record)
  } catch (error) {
    if (isCancelled(error)) throw error
    const { code, message } = failureOf(error)
    if (code !== 'MOVER_UNAVAILABLE') return { reached: false, code, message, latencyMs: 0 }
    const nobody = `Nobody could look: the mover of host "${hostId}" does not answer. Check that it is running.`
    return { reached: false, code, message: nobody, latencyMs: 0 }
  }
}

/** What changed, once. */
function tell({ repositoryId, name, health, earlierHealth, message, opened, resolved }: RecordedLook): void {
  if (opened.length === 0 && resolved.length === 0 && health === earlierHealth) return
  const facts = { repositoryId, health, earlierHealth, opened, resolved }
  const said = `Repository "${name}" is ${health}${message === null ? '' : `: ${message}`}`
  if (health === 'healthy') log.info(said, facts)
  else log.warn(said, facts)
}
