/** The repositories of a mover, in this process: shares are bound folders, and deadlines are short. */
import { join } from 'node:path'
import type { HostedRepository } from '../hosting/hosted-repository.ts'
import { LocalRepositoryHost } from '../hosting/repository-host.ts'
import { ShareDesk } from '../hosting/share-desk.ts'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import { boundShares } from './bound-shares.ts'
import { impatientDeadlines } from './impatient-deadlines.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

export interface HostedShares {
  host: LocalRepositoryHost
  /** What it told administrators. */
  told: string[]
  mountsFolder: string
  open(id: string, folder: string): HostedRepository
  /** Ends the host, and takes away what it mounted. */
  close(): Promise<void>
}

/** A repository on a share, of a folder that is shown by `fault-file-system.ts`. */
export function shareRecord(id: string, folder: string): RepositoryRecord {
  return { id, type: 'nfs', config: { server: 'test', export_path: folder, mount_options: [] }, credentialsId: null }
}

export async function createHostedShares(): Promise<HostedShares> {
  const place = await createTemporaryFolder()
  const mountsFolder = join(place.path, 'mounts')
  const told: string[] = []
  const desk = new ShareDesk({ folder: mountsFolder, mounter: boundShares, passwordOf: async () => '' })
  const host = new LocalRepositoryHost({
    desk,
    mountsFolder,
    log: (_, message) => told.push(message),
    deadlines: impatientDeadlines,
  })
  return {
    host,
    told,
    mountsFolder,
    open: (id, folder) => host.open(shareRecord(id, folder)),
    async close() {
      await host.close()
      await desk.releaseAllBut([])
      await place.remove()
    },
  }
}
