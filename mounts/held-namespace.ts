/**
 * A mount namespace that one process holds open, with a tmpfs over a folder: everything mounted in it is gone with that process and who entered, however they ended.
 */
import { rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import { unexpectedExit, type RunningTool } from '../tools/run-tool.ts'
import { closeOnce } from './close-once.ts'

export interface HeldNamespace {
  /** The tmpfs, as processes inside name it. On the host the folder of this name is empty. */
  readonly folder: string
  /** How the host names something in the folder. */
  hostPath(name: string): string
  /** What to start, instead of a program, so that it runs inside. */
  readonly enter: (program: string, args: readonly string[]) => [program: string, args: string[]]
  /** Settles with the reason when it is gone although nobody closed it. Never rejects. */
  readonly failed: Promise<HoldfastError>
  /** Waits until it is gone, with every mount in it, and the folder removed. Who entered leaves first. Idempotent. */
  close(): Promise<void>
}

/** `end` ends the holder, and must be able to run twice. */
export function heldBy(holder: RunningTool, folder: string, end: () => Promise<void>): HeldNamespace {
  let isClosed = false
  const close = closeOnce(async () => {
    await end()
    await removeFolder(folder)
  })
  return {
    folder,
    hostPath: (name) => join(`/proc/${holder.pid}/root`, folder, name),
    enter: (program, args) => ['nsenter', [`--mount=/proc/${holder.pid}/ns/mnt`, '--', program, ...args]],
    failed: holder.exited.then(() => (isClosed ? new Promise<never>(() => undefined) : holderGone(holder))),
    close: () => {
      isClosed = true
      return close()
    },
  }
}

/** Never more than an empty folder: what lay over it was never on this host's own storage. */
export async function removeFolder(folder: string): Promise<void> {
  await rmdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
}

async function holderGone(holder: RunningTool): Promise<HoldfastError> {
  return new HoldfastError('MOUNT_INTERRUPTED', 'What showed the backup to the mount has ended. The mount is opened again.', {
    cause: await unexpectedExit(holder),
  })
}
