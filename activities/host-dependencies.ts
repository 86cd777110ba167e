/** What the steps of a data host work with. The composition root (`worker/mover.ts`) fills it in; steps know no other way to the world. */
import type { Catalog } from '../db/client.ts'
import type { RepositoryHost } from '../hosting/hosted-repository.ts'
import type { OpenMounts } from '../mounts/open-mounts.ts'
import type { OpenRestoreMount } from '../mounts/restore-mount.ts'
import type { Source } from '../sources/source.ts'
import type { Locker } from '../tools/locker.ts'
import type { SourceReference, SourceSettings } from './source-connections.ts'
import type { ProgressBoard } from './progress-board.ts'

export interface HostDependencies {
  hostId: string
  catalog: Catalog
  /** The platform a VM comes from, with the credentials of its connection. `SOURCE_CONNECTION_NOT_FOUND` when that is gone. */
  sourceOf: (reference: SourceReference) => Promise<Source>
  /** The platform of a connection that need not be in the catalog. */
  openSource: (settings: SourceSettings) => Promise<Source>
  /** Disks that are open for reading files, in this process. */
  mounts: OpenMounts
  openRestoreMount: OpenRestoreMount
  /** Where the files of every repository are touched; steps touch none themselves. */
  repositories: RepositoryHost
  /** Locks backups, and takes locks off that have ended: a program of its own, with rights that we need not have. */
  locker: Locker
  progress: ProgressBoard
  /** Shares are mounted below it, each in a folder of its repository's id. */
  mountsFolder: string
  /** Sockets of this process go below it; short, and emptied when the process is gone. */
  runFolder: string
  /** For manifests: our version and QEMU's. */
  versions: { holdfast: string; qemu: string }
  /** The transfer journal advances at least this often, and at least every so many bytes. */
  checkpointIntervalMs: number
  checkpointIntervalBytes: number
  /** Begins to take transfers for a repository. Idempotent. */
  attachRepository: (repositoryId: string) => Promise<void>
  /** Takes none any more. Idempotent. */
  detachRepository: (repositoryId: string) => Promise<void>
}
