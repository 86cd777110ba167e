/** Opens disks with the driver that this host uses. */
import type { DriverName } from '../domain/restore-mount.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { OpenRestoreMount } from './restore-mount.ts'

export interface MountOptions {
  driver: DriverName
  /** Mounts keep what they need below it; of this process, and emptied when the process is gone. Short, for the paths of sockets. */
  runFolder: string
  /** What is made once and used by every mount: the reader's files. */
  cacheFolder: string
}

export function createMountOpener(options: MountOptions): OpenRestoreMount {
  return async () => {
    throw new HoldfastError('MOUNT_DRIVER_UNAVAILABLE', `The driver "${options.driver}" is not there yet.`)
  }
}
