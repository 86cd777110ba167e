/** The driver `kernel-nbd`: mounts in the host's kernel, of the chain as one of its network block devices. */
import { join } from 'node:path'
import type { MountRequest, RestoreMount } from '../restore-mount.ts'
import { mountDisk } from './kernel-mount.ts'
import { openNbdDisk } from './nbd-disk.ts'
import type { KernelMountOptions } from './open-kernel-mount.ts'
import { requireLoopMounts } from './require-loop-mounts.ts'

/** The promises of `OpenRestoreMount`, except that a disk without a readable volume is opened too. */
export async function openKernelNbdMount(
  request: MountRequest,
  options: KernelMountOptions,
  signal?: AbortSignal,
): Promise<RestoreMount> {
  await requireLoopMounts('kernel-nbd')
  const { links, checkChain } = request
  const disk = await openNbdDisk({ links, checkChain, folder: join(options.runFolder, request.mountId) }, signal)
  return mountDisk(disk, { mountId: request.mountId, driver: 'kernel-nbd' }, signal)
}
