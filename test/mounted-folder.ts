/** A folder of this machine as a restore mount: the real file service on it, and the rows by which the API finds it. */
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { startFileServer } from '../files/serve-files.ts'
import type { FileServer } from '../files/serve-files.ts'
import { createFileService } from '../files/file-service.ts'
import { recordMoverEndpoint } from '../db/queries/mover-endpoints.ts'
import { insertRestoreMount, recordMounted } from '../db/queries/restore-mount-records.ts'
import type { Volume } from '../domain/restore-mount.ts'
import type { FileReader } from '../mounts/file-reader.ts'
import { createFolderReader } from '../mounts/kernel/folder-reader.ts'
import { OpenMounts } from '../mounts/open-mounts.ts'
import { loadFilesKey } from '../security/signed-requests.ts'
import { restoreMountId } from '../temporal/restore-mount-ids.ts'
import type { TestApi } from './api-app.ts'

export const rootVolume: Volume = {
  id: 'disk',
  state: 'readable',
  fileSystem: 'ext4',
  label: 'root',
  uuid: '0d3a',
  sizeBytes: 1024 ** 3,
  note: '',
}

/** What the mover has read for its clients. */
export interface ReadCounts {
  bytes: number
  /** Files that are being read. */
  open: number
}

export interface MountedFolders {
  counts: ReadCounts
  server: FileServer
  /** Adds a row, and opens `folder` in the mover. Returns the mount's id. The backup and its disk must be in the catalog. */
  mount(backupId: string, folder: string, more?: { diskIndex?: number; volumes?: Volume[] }): Promise<string>
  close(): Promise<void>
}

/** The mover of `hostId`, in this process, in the API's catalog and with its key. Files of every readable volume are those of the folder. */
export async function serveFolders(api: TestApi, hostId = 'local', host = '127.0.0.1'): Promise<MountedFolders> {
  const mounts = new OpenMounts(100)
  const key = await loadFilesKey(api.keysFolder)
  const now = (): Date => new Date()
  const app = createFileService({ mounts, key, noteAccess: () => undefined, logger: api.logger, now })
  const fetch = app.fetch
  // The API's server in this process replaces the global Response; Hono's answers to HEAD are then no longer told from what was sent already.
  app.fetch = async (...request) => {
    const answer = await fetch(...request)
    return answer.headers.has('x-hono-already-sent') ? RESPONSE_ALREADY_SENT : answer
  }
  const server = await startFileServer({ app, host, port: 0 })
  await recordMoverEndpoint(api.catalog, { hostId, filesUrl: server.url, certificate: server.certificate, instanceId: 'test' })
  const counts: ReadCounts = { bytes: 0, open: 0 }
  return {
    counts,
    server,
    async mount(backupId, folder, { diskIndex = 0, volumes = [rootVolume] } = {}) {
      const mountId = restoreMountId(backupId, diskIndex)
      const lease = { startedAt: api.clock.now.getTime(), idleMs: 3_600_000, maximumMs: 86_400_000 }
      const workflowId = `restore-mount:${mountId}`
      await insertRestoreMount(api.catalog, { mountId, backupId, diskIndex, hostId, workflowId, ...lease })
      const device = `/dev/test-${diskIndex}`
      await recordMounted(api.catalog, mountId, { driver: 'kernel', mountPath: folder, device, volumes })
      const readable = volumes.map((volume) => ({ volume, folder: volume.state === 'readable' ? folder : null }))
      const reader = counting(createFolderReader(readable), counts)
      const { failed } = reader
      await mounts.open(mountId, async () => ({
        mountId,
        driver: 'kernel',
        reader,
        device,
        folder,
        failed,
        close: () => reader.close(),
      }))
      return mountId
    },
    async close() {
      await server.close()
      await mounts.closeAll()
    },
  }
}

/** The same reader; what it reads is counted. */
function counting(reader: FileReader, counts: ReadCounts): FileReader {
  return {
    volumes: reader.volumes,
    failed: reader.failed,
    list: (...what) => reader.list(...what),
    status: (...what) => reader.status(...what),
    close: () => reader.close(),
    async *read(...what) {
      counts.open++
      try {
        for await (const piece of reader.read(...what)) {
          counts.bytes += piece.length
          yield piece
        }
      } finally {
        counts.open--
      }
    },
  }
}
