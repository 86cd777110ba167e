/**
 * Shares that need no server: "mounting" `anything:<folder>` binds the folder, which another process shows by FUSE, to the mount point. As with a real
 * server, what is behind it outlives who mounted it. mount(2) itself asks nothing of the file system, so that it works while that hangs.
 */
import { HoldfastError } from '../domain/errors.ts'
import type { Mounter } from '../repositories/share-mounts.ts'
import { mountAt, readMountInfo } from '../tools/mount-info.ts'
import { runTool } from '../tools/run-tool.ts'

const TIMEOUT_MS = 10_000
/** As `fault-file-system.py` calls itself, with its folder as source. */
const FILE_SYSTEM = 'fuse.holdfast-test'

export const boundShares: Mounter = {
  async mount({ source }, mountPoint, { signal }) {
    const folder = source.slice(source.indexOf(':') + 1)
    try {
      await runTool('mount', ['-n', '--no-canonicalize', '--bind', folder, mountPoint], { timeoutMs: TIMEOUT_MS, signal })
    } catch (cause) {
      throw new HoldfastError('CONNECTION_FAILED', `"${source}" could not be bound to "${mountPoint}".`, { cause })
    }
  },

  async unmount(mountPoint, { lazy }) {
    if ((await this.mounted(mountPoint)) === null) return
    const how = lazy ? ['-l'] : []
    try {
      await runTool('umount', ['-n', '--no-canonicalize', ...how, mountPoint], { timeoutMs: TIMEOUT_MS })
    } catch (cause) {
      throw new HoldfastError('REPO_BUSY', `"${mountPoint}" is in use.`, { cause })
    }
  },

  async mounted(mountPoint) {
    const entry = mountAt(await readMountInfo(), mountPoint)
    if (entry === null) return null
    // What it shows is taken for a server of this name.
    return entry.fileSystem === FILE_SYSTEM ? { fileSystem: 'nfs', source: `test:${entry.source}` } : entry
  },
}
