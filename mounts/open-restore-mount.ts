/** Opens disks with the driver that this host uses. */
import { HoldfastError } from '../domain/errors.ts'
import type { DriverName, Volume } from '../domain/restore-mount.ts'
import type { MountRequest, OpenRestoreMount, RestoreMount } from './restore-mount.ts'
import { openUserModeLinux } from './user-mode-linux/open-user-mode-linux.ts'

export interface MountOptions {
  driver: DriverName
  /** Mounts keep what they need below it; of this process, and emptied when the process is gone. Short, for the paths of sockets. */
  runFolder: string
  /** What is made once and used by every mount: the reader's files. */
  cacheFolder: string
}

export function createMountOpener(options: MountOptions): OpenRestoreMount {
  return async (request, signal) => {
    const mount = await openWith(options, request, signal)
    const { volumes } = mount.reader
    if (volumes.some(({ state }) => state === 'readable')) return mount
    await mount.close()
    throw nothingReadable(volumes)
  }
}

function openWith(options: MountOptions, request: MountRequest, signal: AbortSignal | undefined): Promise<RestoreMount> {
  if (options.driver === 'user-mode-linux') return openUserModeLinux(request, options, signal)
  throw new HoldfastError('MOUNT_DRIVER_UNAVAILABLE', `The driver "${options.driver}" is not there yet.`)
}

function nothingReadable(volumes: readonly Volume[]): HoldfastError {
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
