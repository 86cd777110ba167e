/** The update that a caller starts a workflow with. Apart from its handler, so that clients need no workflow code. */
import { defineUpdate } from '@temporalio/workflow'
import type { UpdateDefinition } from '@temporalio/common'

/** Its answer is whether, and as what, the work was admitted; a refusal fails it with the refusal's code. */
export function admissionUpdate<Answer>(): UpdateDefinition<Answer> {
  return defineUpdate('admission')
}
