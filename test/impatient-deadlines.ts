/** For storage that hangs on purpose: everything of `usualDeadlines`, as short as a busy test machine allows. */
import type { Deadlines } from '../hosting/deadlines.ts'

export const impatientDeadlines: Deadlines = {
  questionMs: 2_000,
  operationMs: 2_000,
  longestMs: 20_000,
  quietMs: 1_000,
  giveUpMs: 2_000,
  graceMs: 2_000,
  flushMs: 5_000,
  patienceMs: 500,
}
