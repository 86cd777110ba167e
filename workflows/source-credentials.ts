/** Sealed credentials that were stored before a workflow began, for it to put to use. */
import { controlSteps } from './activity-options.ts'
import { Compensations } from './compensation.ts'

/** When the work fails, nothing refers to them, and they go. The step itself spares what a source uses. */
export async function keepingCredentials<T>(credentialsId: string | null, work: () => Promise<T>): Promise<T> {
  const undo = new Compensations()
  if (credentialsId !== null) undo.add('discard the credentials', () => controlSteps().discardCredentials(credentialsId))
  try {
    return await work()
  } catch (error) {
    await undo.run()
    throw error
  }
}
