/** Undoing: every step that acquires something registers its release beside it. */
import { CancellationScope, log } from '@temporalio/workflow'

interface Release {
  name: string
  run: () => Promise<unknown>
}

/**
 * Releases, run newest first in a scope that no cancellation reaches. A release that fails for good is logged and the others still run:
 * `reconcile` finds what it left.
 */
export class Compensations {
  readonly #releases: Release[] = []

  /** Register *before* the step that acquires: releases are idempotent, and a step may have worked although it was cancelled. */
  add(name: string, run: () => Promise<unknown>): void {
    this.#releases.push({ name, run })
  }

  /** What was acquired is now to stay. */
  forget(): void {
    this.#releases.length = 0
  }

  /** Runs and forgets all releases. Returns the names of those that failed. Never throws. */
  async run(): Promise<string[]> {
    const failed: string[] = []
    await CancellationScope.nonCancellable(async () => {
      for (let release = this.#releases.pop(); release; release = this.#releases.pop()) {
        const { name } = release
        await release.run().catch((error: unknown) => {
          failed.push(name)
          log.warn(`Could not ${name}; reconcile will`, { error: String(error) })
        })
      }
    })
    return failed
  }
}

/** Runs the work; when it fails, what it registered is undone, newest first. */
export async function undoingFailures<T>(work: (undo: Compensations) => Promise<T>): Promise<T> {
  const undo = new Compensations()
  try {
    return await work(undo)
  } catch (error) {
    await undo.run()
    throw error
  }
}
