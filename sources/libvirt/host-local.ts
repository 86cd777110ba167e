/** The hypervisor runs on this machine. */
import { constants } from 'node:fs'
import { access, readdir, rm, stat, statfs } from 'node:fs/promises'
import { serveGraph } from '../../disks/serve.ts'
import { HoldfastError } from '../../domain/errors.ts'
import { runTool } from '../../tools/run-tool.ts'
import { unusableFolder, type HypervisorHost } from './host.ts'
import { sharedImageGraph } from './shared-image.ts'

export function localHost(): HypervisorHost {
  return {
    async freeBytes(folder) {
      await requireWritableFolder(folder)
      const { bavail, bsize } = await statfs(folder)
      return bavail * bsize
    },
    async listFiles(folder, prefix) {
      try {
        return (await readdir(folder)).filter((name) => name.startsWith(prefix))
      } catch (error) {
        if (isGone(error)) return []
        throw error
      }
    },
    removeFile: (path) => rm(path, { force: true }),
    async fingerprint(path) {
      try {
        const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
        return [dev, ino, size, mtimeNs, ctimeNs].join(' ')
      } catch (error) {
        if (isGone(error)) return null
        throw error
      }
    },
    async qemuImg(args, options) {
      return (await runTool('qemu-img', args, options)).stdout
    },
    reach: (path) => Promise.resolve({ path, close: () => Promise.resolve() }),
    async serveImage(image, options) {
      const served = await serveGraph(sharedImageGraph(image), {
        ...options,
        readOnly: true,
        bitmap: image.bitmap ?? undefined,
      })
      if (served.endpoint.type !== 'unix') throw new HoldfastError('INTERNAL', 'qemu-nbd was not asked for TCP.')
      return { path: served.endpoint.path, exportName: served.endpoint.exportName, close: () => served.close() }
    },
  }
}

async function requireWritableFolder(folder: string): Promise<void> {
  const found = await stat(folder).catch(() => null)
  const writable =
    found?.isDirectory() &&
    (await access(folder, constants.W_OK | constants.X_OK).then(
      () => true,
      () => false,
    ))
  if (!writable) throw unusableFolder(folder, 'this machine')
}

function isGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
}
