/**
 * Shares that need no server: "mounting" `anything:<folder>` binds the folder, which another process shows by FUSE, to the mount point. As with a real
 * server, what is behind it outlives who mounted it. mount(2) itself asks nothing of the file system, so that it works while that hangs.
 */
import { readFile } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'
import type { Mounter } from '../repositories/share-mounts.ts'
import { runTool } from '../tools/run-tool.ts'

const TIMEOUT_MS = 10_000

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
    const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')
    const line = lines.findLast((candidate) => candidate.split(' ')[4] === mountPoint)
    if (line === undefined) return null
    const [fileSystem = '', source = ''] = line.slice(line.indexOf(' - ') + 3).split(' ')
    return { fileSystem, source }
  },
}
