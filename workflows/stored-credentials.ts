/** Sealed credentials that were stored before a workflow began, for it to put to use. */
import { controlSteps } from './activity-options.ts'
import { undoingFailures } from './compensation.ts'

/** When the work fails, nothing refers to them, and they go. The step itself spares what a source or a repository uses. */
export async function keepingCredentials<T>(credentialsId: string | null, work: () => Promise<T>): Promise<T> {
  return undoingFailures(async (undo) => {
    if (credentialsId !== null) undo.add('discard the credentials', () => controlSteps().discardCredentials(credentialsId))
    return work()
  })
}
