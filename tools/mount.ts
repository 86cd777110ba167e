/**
 * Shares by `mount.nfs`, `mount.cifs` and `umount`. The helpers are started without `mount` before them: it would start them as children of its
 * own, which go on when it is killed, and a mount that nobody waits for any more could still appear.
 */
import type { Mounter, MountedShare, Share } from '../repositories/share-mounts.ts'
import { mountAt, readMountInfo } from './mount-info.ts'
import { mountError, unmountError } from './mount-errors.ts'
import { runTool } from './run-tool.ts'

const MOUNT_MS = 30_000
const UNMOUNT_MS = 10_000

export interface MounterOptions {
  /** How long a server may take. Default 30 s. */
  mountTimeoutMs?: number
  /** How long `umount` may write out what is left. Default 10 s. */
  unmountTimeoutMs?: number
}

export function createMounter(options: MounterOptions = {}): Mounter {
  const { mountTimeoutMs = MOUNT_MS, unmountTimeoutMs = UNMOUNT_MS } = options
  const unmount = async (mountPoint: string, lazy: boolean): Promise<void> => {
    if ((await mounted(mountPoint)) === null) return
    try {
      await runUmount(mountPoint, lazy, unmountTimeoutMs)
    } catch (error) {
      // Somebody else may have been first, and a killed umount may have been just done.
      if ((await mounted(mountPoint)) !== null) throw unmountError(error, mountPoint)
    }
  }
  return {
    mounted,
    unmount: (mountPoint, { lazy }) => unmount(mountPoint, lazy),
    async mount(share, mountPoint, { signal }) {
      try {
        await runMount(share, mountPoint, { timeoutMs: mountTimeoutMs, signal })
      } catch (error) {
        await unmount(mountPoint, true)
        throw mountError(error, share)
      }
    },
  }
}

async function mounted(mountPoint: string): Promise<MountedShare | null> {
  const entry = mountAt(await readMountInfo(), mountPoint)
  return entry && { fileSystem: entry.fileSystem, source: entry.source }
}

async function runMount(
  share: Share,
  mountPoint: string,
  run: { timeoutMs: number; signal: AbortSignal | undefined },
): Promise<void> {
  const args = [share.source, mountPoint, '-o', share.options.join(',')]
  // Without a descriptor of its own mount.cifs would ask at the terminal, if there is one.
  const secret = share.fileSystem === 'cifs' ? (share.password ?? '') : undefined
  const env = secret === undefined ? {} : { PASSWD_FD: '3' }
  await runTool(`mount.${share.fileSystem}`, args, { ...run, env, ...(secret === undefined ? {} : { secret }) })
}

/** Neither the path nor what is mounted there is looked at: `-c` takes the path as it is, `-i` leaves out a helper that would ask the server. */
async function runUmount(mountPoint: string, lazy: boolean, timeoutMs: number): Promise<void> {
  await runTool('umount', ['-c', '-i', ...(lazy ? ['-l'] : []), '--', mountPoint], { timeoutMs })
}
