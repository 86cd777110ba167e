/** The update a caller starts a workflow with: its answer is whether, and as what, the work was admitted. */
import { CancellationScope, allHandlersFinished, condition, setHandler } from '@temporalio/workflow'
import { admissionUpdate } from './admission-update.ts'
import { asApplicationFailure } from './failure.ts'
import type { FailureReport } from './failure.ts'

/** Answers every caller who asks, before or after the decision, with the same decision. */
export class AdmissionGate<Answer> {
  #decision: { answer: Answer } | { refusal: FailureReport } | undefined

  constructor() {
    setHandler(admissionUpdate<Answer>(), () => this.#answer(), {
      description: 'Whether the work was admitted, and as what',
    })
  }

  admit(answer: Answer): void {
    this.#decision ??= { answer }
  }

  /** Nothing when it was admitted before: what fails later is the workflow's own end. */
  refuse(refusal: FailureReport): void {
    this.#decision ??= { refusal }
  }

  /** A workflow must not end while a caller still waits for its answer. Call last, when a decision is certain. */
  async allAnswered(): Promise<void> {
    await CancellationScope.nonCancellable(() => condition(allHandlersFinished))
  }

  async #answer(): Promise<Answer> {
    // A cancelled workflow still refuses properly: the caller learns CANCELLED from the gate, not from an interrupted wait.
    await CancellationScope.nonCancellable(() => condition(() => this.#decision !== undefined))
    const decision = this.#decision!
    if ('refusal' in decision) throw asApplicationFailure(decision.refusal)
    return decision.answer
  }
}
