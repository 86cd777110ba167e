/** How long one statement may take before its connection is given up. */
import { AsyncLocalStorage } from 'node:async_hooks'

const patience = new AsyncLocalStorage<'unlimited'>()

/** Runs `work` without a deadline on its statements: a migration may rebuild a table of millions of rows, or wait for another process's. */
export function withoutStatementDeadline<T>(work: () => Promise<T>): Promise<T> {
  return patience.run('unlimited', work)
}

/** The deadline of a statement that starts now; `undefined` for none. */
export function statementDeadlineMs(usualMs: number): number | undefined {
  return patience.getStore() === 'unlimited' ? undefined : usualMs
}
