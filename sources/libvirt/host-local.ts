/** The hypervisor runs on this machine. */
import { constants } from 'node:fs'
import { access, open, readdir, readFile, rm, stat, statfs } from 'node:fs/promises'
import { errnoOf } from '../../disks/restore-files.ts'
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
        const stats = await stat(path, { bigint: true })
        const { dev, ino, size, mtimeNs, ctimeNs } = stats
        const file = [dev, ino, size, mtimeNs, ctimeNs].join(' ')
        return stats.isBlockDevice() ? `${file} ${await deviceWrites(path, stats.rdev)}` : file
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

/**
 * What the kernel counts of a block device: sectors that were written or discarded (not requests, which flushes can be too). Its node says nothing: libvirt gives QEMU one of its own, in a
 * `/dev` that only QEMU sees.
 */
async function deviceWrites(path: string, rdev: bigint): Promise<string> {
  // What is still in the page cache is not counted yet.
  const device = await open(path)
  try {
    await device.sync()
  } finally {
    await device.close()
  }
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn)
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn)
  const counters = (await readFile(`/sys/dev/block/${major}:${minor}/stat`, 'utf8')).trim().split(/\s+/)
  // https://docs.kernel.org/block/stat.html
  return [counters[6], counters[13]].join(' ')
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
  return ['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')
}
