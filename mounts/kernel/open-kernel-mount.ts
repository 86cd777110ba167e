/** The driver `kernel`: loop mounts in the host's kernel, of the chain as one exported file. */
import { join } from 'node:path'
import type { MountRequest, RestoreMount } from '../restore-mount.ts'
import { NOBODY } from '../nobody.ts'
import { openRoom } from '../room.ts'
import { mountDisk } from './kernel-mount.ts'
import { requireLoopMounts } from './require-loop-mounts.ts'

/** Folders to mount on, and the markers of programs. */
const TMPFS_BYTES = 4 * 1024 * 1024

export interface KernelMountOptions {
  /** Absolute path; a folder of the mount's id is made below it, and removed in the end. */
  runFolder: string
}

/** The promises of `OpenRestoreMount`, except that a disk without a readable volume is opened too. */
export async function openKernelMount(
  request: MountRequest,
  options: KernelMountOptions,
  signal?: AbortSignal,
): Promise<RestoreMount> {
  await requireLoopMounts('kernel')
  const folder = join(options.runFolder, request.mountId)
  const { links, checkChain } = request
  const room = await openRoom({ links, checkChain, folder, tmpfsBytes: TMPFS_BYTES, owner: NOBODY }, signal)
  return mountDisk(
    { ...room, path: join(room.folder, 'disk'), owner: NOBODY },
    { mountId: request.mountId, driver: 'kernel' },
    signal,
  )
}
