/**
 * Keeps two attempts at one disk apart. After a heartbeat timeout (a partition, a stopped process) Temporal starts another attempt
 * while the first may still be writing. The lock is a socket in Linux's abstract namespace: the kernel gives it to one process and
 * takes it back when that process dies, however it dies. There is no file to go stale and nothing to clean up.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { Server } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../domain/errors.ts'
import { placeOf } from '../hosting/hanging-file-systems.ts'

/** An attempt that was told to stop has that long to write its checkpoint. */
const PATIENCE_MS = 45_000
const POLL_MS = 100

export interface LockOptions {
  signal?: AbortSignal
  patienceMs?: number
}

/** Runs `work` as the only attempt at this disk on this host. `SOURCE_BUSY` (retryable) when an earlier attempt does not end. */
export async function holdingDisk<T>(
  backupId: string,
  diskIndex: number,
  work: () => Promise<T>,
  options: LockOptions = {},
): Promise<T> {
  return holding(`backup ${backupId} disk ${diskIndex}`, work, options)
}

/** Runs `work` while no attempt at any of these disks is alive. */
export async function holdingDisks<T>(backupId: string, diskIndexes: readonly number[], work: () => Promise<T>): Promise<T> {
  const [first, ...rest] = diskIndexes
  return first === undefined ? work() : holdingDisk(backupId, first, () => holdingDisks(backupId, rest, work))
}

/** The same for a restore. */
export async function holdingRestore<T>(restoreId: string, work: () => Promise<T>, options: LockOptions = {}): Promise<T> {
  return holding(`restore ${restoreId}`, work, options)
}

/** Runs `work` while no attempt at any of these restores is alive. */
export async function holdingRestores<T>(restoreIds: readonly string[], work: () => Promise<T>): Promise<T> {
  const [first, ...rest] = restoreIds
  return first === undefined ? work() : holdingRestore(first, () => holdingRestores(rest, work))
}

/** Another restore will not end soon. */
const TARGET_PATIENCE_MS = 2_000

/** Runs `work` as the only restore to this file on this host, whatever path leads to it. `RESTORE_TARGET_EXISTS` when another one writes to it. */
export async function holdingTarget<T>(targetPath: string, work: () => Promise<T>, options: LockOptions = {}): Promise<T> {
  const folder = dirname(targetPath)
  // Its links are resolved without touching what may hang; a folder that is not there is for the restore to refuse.
  const target = join((await placeOf(folder)).path, basename(targetPath))
  const busy = (): HoldfastError =>
    new HoldfastError(
      'RESTORE_TARGET_EXISTS',
      `Another restore is writing to "${target}". Choose another name, or cancel that restore.`,
      {
        details: { path: target },
      },
    )
  return holding(`restore target ${target}`, work, { patienceMs: TARGET_PATIENCE_MS, ...options }, busy)
}

async function holding<T>(
  what: string,
  work: () => Promise<T>,
  { signal, patienceMs = PATIENCE_MS }: LockOptions,
  busy = (): HoldfastError =>
    new HoldfastError('SOURCE_BUSY', `An earlier attempt at ${what} has not ended yet. It is tried again.`),
): Promise<T> {
  const lock = await acquire(what, Date.now() + patienceMs, busy, signal)
  try {
    return await work()
  } finally {
    lock.close()
    await once(lock, 'close')
  }
}

async function acquire(
  what: string,
  deadline: number,
  busy: () => HoldfastError,
  signal: AbortSignal | undefined,
): Promise<Server> {
  const name = `\0holdfast-${createHash('sha256').update(what).digest('hex')}`
  for (;;) {
    signal?.throwIfAborted()
    const server = createServer((connection) => connection.destroy())
    server.listen(name)
    try {
      await once(server, 'listening')
      return server
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error
    }
    if (Date.now() > deadline) throw busy()
    await delay(POLL_MS)
  }
}
