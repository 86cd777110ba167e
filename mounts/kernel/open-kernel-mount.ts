/** The driver `kernel`: loop mounts in the host's kernel, of the chain as one exported file. */
import { join } from 'node:path'
import type { MountRequest, RestoreMount } from '../restore-mount.ts'
import { openRoom, type Room } from '../room.ts'
import type { KernelDisk } from './kernel-disk.ts'
import { mountDisk } from './kernel-mount.ts'
import { requireLoopMounts } from './require-loop-mounts.ts'

/** Folders to mount on, and the markers of programs. */
const TMPFS_BYTES = 4 * 1024 * 1024
/** "nobody": blkid reads the disk, and needs no more. */
const NOBODY = { uid: 65_534, gid: 65_534 }

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
  const room = await openRoom({ links: request.links, folder, tmpfsBytes: TMPFS_BYTES, owner: NOBODY }, signal)
  return mountDisk(diskOf(room), { mountId: request.mountId, driver: 'kernel' }, signal)
}

function diskOf(room: Room): KernelDisk {
  const { device, sizeBytes, folder, failed } = room
  return {
    path: join(folder, 'disk'),
    device,
    sizeBytes,
    folder,
    owner: NOBODY,
    failed,
    hostPath: (name) => room.hostPath(name),
    enter: (program, args) => room.enter(program, args),
    close: () => room.close(),
  }
}
