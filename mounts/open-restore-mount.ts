/** Opens disks with the driver that this host uses. */
import { HoldfastError } from '../domain/errors.ts'
import type { DriverName, Volume } from '../domain/restore-mount.ts'
import { openKernelMount } from './kernel/open-kernel-mount.ts'
import { openKernelNbdMount } from './kernel/open-kernel-nbd-mount.ts'
import type { OpenRestoreMount } from './restore-mount.ts'
import { createUserModeLinux } from './user-mode-linux/open-user-mode-linux.ts'

export interface MountOptions {
  driver: DriverName
  /** Mounts keep what they need below it; of this process, and emptied when the process is gone. Short, for the paths of sockets. */
  runFolder: string
  /** What is made once and used by every mount: the reader's files. */
  cacheFolder: string
}

export function createMountOpener(options: MountOptions): OpenRestoreMount {
  const open = drivers[options.driver](options)
  return async (request, signal) => {
    const mount = await open(request, signal)
    const { volumes } = mount.reader
    if (volumes.some(({ state }) => state === 'readable')) return mount
    await mount.close()
    throw nothingReadable(volumes)
  }
}

const drivers: Record<DriverName, (options: MountOptions) => OpenRestoreMount> = {
  'user-mode-linux': createUserModeLinux,
  kernel: (options) => (request, signal) => openKernelMount(request, options, signal),
  'kernel-nbd': (options) => (request, signal) => openKernelNbdMount(request, options, signal),
}

/** Failures travel through histories, whose size is limited, and are read by people. */
const VOLUMES_TOLD_MAX = 16

function nothingReadable(all: readonly Volume[]): HoldfastError {
  const volumes = all.slice(0, VOLUMES_TOLD_MAX)
  const found = volumes.map(({ id, state, fileSystem, note }) => `${id} is ${state}${describe(fileSystem, note)}`)
  return new HoldfastError(
    'FILE_SYSTEM_UNREADABLE',
    `No file system of this disk can be read: ${found.join('; ') || 'it holds nothing that is known here'}. The whole disk can still be restored.`,
    { details: { volumes: volumes.map((volume) => ({ ...volume })) } },
  )
}

function describe(fileSystem: string, note: string): string {
  const told = [fileSystem, note].filter((text) => text !== '').join(', ')
  return told === '' ? '' : ` (${told})`
}
