/** For tests of what is refused. */
import { inspect } from 'node:util'
import { expect } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'

/** The `HoldfastError` that `work` fails with. The test fails when it succeeds, or fails with anything else. */
export async function failureOf(work: Promise<unknown>): Promise<HoldfastError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (error instanceof HoldfastError) return error
  return expect.unreachable(error === undefined ? 'this should have failed' : `not a HoldfastError: ${inspect(error)}`)
}
