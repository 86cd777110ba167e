/** Keeping a source's state true when it could not be reached. */
import { controlSteps } from './activity-options.ts'
import { failureOf } from './failure.ts'

/** Neither says anything about the platform: somebody cancelled, or the source was changed meanwhile. */
const silent: ReadonlySet<string> = new Set(['CANCELLED', 'SOURCE_BUSY'])

/** Why the work failed goes into the source's row. */
export async function notingFailure<T>(sourceId: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const { code, message } = failureOf(error)
    if (!silent.has(code)) await controlSteps().recordSourceFailure({ sourceId, code, message })
    throw error
  }
}
