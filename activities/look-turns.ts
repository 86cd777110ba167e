/** Looks at one repository by many who wait for it: while it is dead, one of them holds a slot of the mover for long, and not all of them. */
import { HoldfastError } from '../domain/errors.ts'
import { parkedReasonOf } from '../domain/parking.ts'
import { settlesWithin } from '../hosting/deadlines.ts'

/** What kept a backup from going on; `null`: nothing. */
export type Look = Promise<HoldfastError | null>

const PATIENCE_MS = 2_000

/**
 * Looks, unless somebody else's look at the repository is under way: that is waited for a moment. When it gets no answer, neither would this one.
 * `pending`: the looks under way, by repository; kept here.
 */
export async function lookInTurn(
  pending: Map<string, Look>,
  repositoryId: string,
  look: () => Look,
  patienceMs: number = PATIENCE_MS,
): Look {
  const others = pending.get(repositoryId)
  if (others) {
    if (!(await settlesWithin(others, patienceMs))) return unanswered(repositoryId)
    const found = await others.catch(() => null)
    if (found && parkedReasonOf(found) === 'repository_unavailable') return found
  }
  const answer = look()
  if (pending.has(repositoryId)) return answer
  pending.set(repositoryId, answer)
  try {
    return await answer
  } finally {
    pending.delete(repositoryId)
  }
}

function unanswered(repositoryId: string): HoldfastError {
  const message = `Repository ${repositoryId} has not answered another waiting backup yet: check the share or its disk. It is tried again.`
  return new HoldfastError('REPO_UNAVAILABLE', message, { details: { repository_id: repositoryId } })
}
