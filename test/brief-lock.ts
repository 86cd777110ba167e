/** Locks that end while a test waits: what a repository would do whose days are seconds. */
import { expect } from 'vitest'
import type { UnlockRequest } from '../domain/lock-protocol.ts'
import { createLocker } from '../tools/locker.ts'
import type { Locker } from '../tools/locker.ts'

/** A busy machine may take longer to lock than the shortest of them lasts; a program takes its time to start. */
const SPANS_MS = [300, 1_500, 5_000, 20_000]

/** Locks a backup for as short a time as this machine can. Returns when the lock ends. `locker`: one that needs no start, if there is one. */
export async function lockBriefly(
  { root, repositoryId, vmFolder, backupId }: UnlockRequest,
  locker?: Pick<Locker, 'lock'>,
): Promise<Date> {
  for (const spanMs of locker ? SPANS_MS : SPANS_MS.slice(1)) {
    const until = new Date(Date.now() + spanMs)
    const backups = [{ vmFolder, backupId, until: until.toISOString() }]
    const { failed } = await (locker ?? createLocker()).lock({ root, repositoryId, backups })
    if (failed.length === 0) return until
    expect(failed[0]!.reason).toContain('would have ended already')
  }
  return expect.unreachable('locking takes longer than the longest of these locks')
}

/** Resolves when the lock has ended. */
export async function lockEnded(until: Date): Promise<void> {
  await expect.poll(() => Date.now() > until.getTime(), { interval: 50 }).toBe(true)
}
