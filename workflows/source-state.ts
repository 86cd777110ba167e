/** Keeping a source's state true when it could not be reached. */
import { controlSteps } from './activity-options.ts'
import { failureOf } from './failure.ts'

/** Why the work failed goes into the source's row. A cancellation says nothing about the source. */
export async function notingFailure<T>(sourceId: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const { code, message } = failureOf(error)
    if (code !== 'CANCELLED') await controlSteps().recordSourceFailure({ sourceId, code, message })
    throw error
  }
}
