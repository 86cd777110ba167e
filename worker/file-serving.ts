/** The mover's file service, and that the API finds it. */
import { randomUUID } from 'node:crypto'
import type { Catalog } from '../db/client.ts'
import { recordMoverEndpoint, removeMoverEndpoint } from '../db/queries/mover-endpoints.ts'
import { noteMountAccess } from '../db/queries/restore-mounts.ts'
import { AccessNotes } from '../files/access-notes.ts'
import { createFileService } from '../files/file-service.ts'
import { startFileServer } from '../files/serve-files.ts'
import type { OpenMounts } from '../mounts/open-mounts.ts'
import type { Environment } from '../runtime/environment.ts'
import { homeFolders } from '../runtime/environment.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Shutdown } from '../runtime/shutdown.ts'
import { loadFilesKey } from '../security/signed-requests.ts'

/** Serves the files of `mounts` until the process stops. Rejects when it cannot listen; the catalog must be reachable. */
export async function serveMountedFiles(
  environment: Environment,
  { catalog, mounts, logger, shutdown }: { catalog: Catalog; mounts: OpenMounts; logger: Logger; shutdown: Shutdown },
): Promise<void> {
  const { hostId, filesHost, filesPort } = environment
  const now = (): Date => new Date()
  const key = await loadFilesKey(homeFolders(environment.home).keys)
  const write = (accesses: readonly { mountId: string; at: Date }[]): Promise<void> =>
    noteMountAccess(
      catalog,
      accesses.map(({ mountId, at }) => ({ mountId, at: at.getTime() })),
    )
  const notes = new AccessNotes({ write, now, logger })
  shutdown.add('access notes', () => notes.close())
  const app = createFileService({ mounts, key, noteAccess: (mountId) => notes.note(mountId), logger, now })
  const server = await startFileServer({ app, host: filesHost, port: filesPort })
  shutdown.add('file service', () => server.close())
  const instanceId = randomUUID()
  await recordMoverEndpoint(catalog, { hostId, filesUrl: server.url, certificate: server.certificate, instanceId })
  shutdown.add('file service in the catalog', () => removeMoverEndpoint(catalog, { hostId, instanceId }))
  logger.info({ url: server.url, tls: server.certificate !== null }, 'serves files')
}
