/** How long work on storage that may hang is waited for. */

/** All in milliseconds. */
export interface Deadlines {
  /** For the question whether the storage answers. */
  questionMs: number
  /** A short verb that takes longer is suspected, and the question is asked; answered, it may go on … */
  operationMs: number
  /** … but not for longer than this. */
  longestMs: number
  /** Disk work that tells no progress for so long is suspected. */
  quietMs: number
  /** Storage that has been silent for so long beyond its time is given up: the process is killed, and what runs in it is told so. */
  giveUpMs: number
  /** Cancelled disk work may take so long to write its checkpoint; storage that still answers gets `flushMs`. */
  graceMs: number
  flushMs: number
  /** Of what must be waited for before other work on the same files begins; then that is refused. */
  patienceMs: number
}

export const usualDeadlines: Deadlines = {
  questionMs: 10_000,
  operationMs: 30_000,
  longestMs: 600_000,
  quietMs: 15_000,
  giveUpMs: 30_000,
  graceMs: 10_000,
  flushMs: 45_000,
  patienceMs: 2_000,
}

/** Whether `work` settles in time. What comes later is for others to hear. */
export async function settlesWithin(work: Promise<unknown>, limitMs: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<false>()
  const timer = setTimeout(() => resolve(false), limitMs)
  const settled = work.then(
    () => true,
    () => true,
  )
  try {
    return await Promise.race([settled, late])
  } finally {
    clearTimeout(timer)
  }
}
