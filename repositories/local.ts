/** A repository in a folder of this host: a disk of its own, or anything an administrator mounted. */
import { mkdir, rename, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { RepositoryType } from '../domain/backup.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { Manifest } from '../domain/manifest.ts'
import type { StorageInfo } from '../domain/storage.ts'
import { dependentsOn, isFolder, listVmFolder, namesOfFolders, readPublished, vmFoldersOf } from './backup-folders.ts'
import { clearRoot } from './clearing.ts'
import { syncFolder } from './durable-files.ts'
import { errnoOf, onFiles } from './file-errors.ts'
import { explainingLock, mayBeLock, refuseLocked } from './locked-backup.ts'
import { checkMarker, initializeRoot, readMarkerId, refuseForeignFiles } from './marker.ts'
import { backupFolderOf, backupPaths, checkRoot, vmsFolder } from './paths.ts'
import type { BackupPaths } from './paths.ts'
import { checkParent, isSameBackup, prepareForPublication } from './publication.ts'
import type { BackupListing, BackupReference, PublishedBackup, Repository, StagedBackup } from './repository.ts'
import { isFull, keepReserve, releaseReserve } from './reserve-file.ts'
import { probeStorage } from './storage-probe.ts'

/** What a file system takes for one more folder, most of the time: the need to report when there was no room for it. */
const FOLDER_BYTES = 4096

export class LocalRepository implements Repository {
  readonly type: RepositoryType
  readonly id: string
  readonly root: string

  /** `type`: of a share that is mounted at `path`. `REPO_INVALID` when `path` is relative or belongs to the system. Touches nothing yet. */
  constructor(id: string, path: string, type: RepositoryType = 'local') {
    this.id = id
    this.type = type
    this.root = checkRoot(path)
  }

  async initialize(): Promise<void> {
    await initializeRoot(this.root, this.id)
    await this.keepReserve()
  }

  readIdentity(): Promise<string | null> {
    return onFiles(this.root, 'read the marker', () => readMarkerId(this.root))
  }

  checkFree(): Promise<void> {
    return onFiles(this.root, 'list the folder', () => refuseForeignFiles(this.root))
  }

  clear(): Promise<boolean> {
    return clearRoot(this.root, this.id)
  }

  storage(): Promise<StorageInfo> {
    return probeStorage(this.root)
  }

  createBackup(reference: BackupReference): Promise<StagedBackup> {
    const paths = backupPaths(this.root, reference)
    return this.#onFiles(`stage ${reference.backupId}`, async () => {
      if (await isFolder(paths.published)) throw alreadyPublished(reference)
      await mkdir(paths.vmFolder, { mode: 0o700 }).catch(unlessExists)
      await requireFolder(paths.vmFolder, this.root)
      // What an earlier crash left half deleted costs space only: not being able to remove it is no reason not to back up.
      await this.#removeLeftovers(paths).catch(() => {})
      await mkdir(paths.staged, { mode: 0o700 }).catch(unlessExists)
      await requireFolder(paths.staged, this.root)
      await syncFolder(paths.vmFolder)
      await syncFolder(vmsFolder(this.root))
      return { ...reference, folder: paths.staged }
    })
  }

  publishBackup(reference: BackupReference, manifest: Manifest): Promise<PublishedBackup> {
    const paths = backupPaths(this.root, reference)
    const manifestBytes = Buffer.byteLength(JSON.stringify(manifest, null, 2))
    const publish = async (): Promise<PublishedBackup> => {
      if (await isFolder(paths.published)) return this.#confirmPublished(reference, paths, manifest)
      if (!(await isFolder(paths.staged))) throw notFound(reference, 'was never staged, or its staging folder was discarded')
      if (manifest.parent_backup_id !== null) {
        await checkParent(manifest, paths.vmFolder, { vmFolder: reference.vmFolder, backupId: manifest.parent_backup_id })
      }
      await prepareForPublication(reference, paths.staged, manifest)
      await rename(paths.staged, paths.published)
      await syncFolder(paths.vmFolder)
      return readPublished(reference, paths.published)
    }
    return this.#onFiles(`publish ${reference.backupId}`, publish, manifestBytes)
  }

  discardBackup(reference: BackupReference): Promise<void> {
    const paths = backupPaths(this.root, reference)
    return this.#onFiles(`discard ${reference.backupId}`, () => this.#remove(paths, paths.staged))
  }

  getBackup(reference: BackupReference): Promise<PublishedBackup> {
    const paths = backupPaths(this.root, reference)
    return this.#onFiles(`read ${reference.backupId}`, async () => {
      if (!(await isFolder(paths.vmFolder)) || !(await isFolder(paths.published))) throw notFound(reference, 'is not published')
      return readPublished(reference, paths.published)
    })
  }

  listBackups(vmFolder?: string): Promise<BackupListing> {
    return this.#onFiles('list the backups', async () => {
      const listing: BackupListing = { backups: [], damaged: [], staged: [] }
      const present = await vmFoldersOf(this.root)
      for (const folder of vmFolder === undefined ? present : [vmFolder]) await listVmFolder(this.root, folder, listing)
      return listing
    })
  }

  deleteBackup(reference: BackupReference): Promise<void> {
    const paths = backupPaths(this.root, reference)
    return this.#onFiles(`delete ${reference.backupId}`, async () => {
      if (await isFolder(paths.published)) {
        const dependents = await dependentsOn(reference.backupId, this.root, reference.vmFolder)
        if (dependents.length > 0) throw hasDependents(reference, dependents)
        await refuseLocked(this.root, paths.published, reference.backupId)
      }
      await this.#remove(paths, paths.published).catch(explainingLock(this.root, reference.backupId))
    })
  }

  keepReserve(): Promise<void> {
    return this.#onFiles('set space aside', () => keepReserve(this.root))
  }

  releaseReserve(): Promise<void> {
    return this.#onFiles('give back the space that is set aside', () => releaseReserve(this.root))
  }

  /** On a full disk even a rename may find no room: then the reserve goes first, and is made again from what became free. */
  async #remove(paths: BackupPaths, folder: string): Promise<void> {
    try {
      await this.#removeFolder(paths, folder)
    } catch (error) {
      if (!isFull(error)) throw error
      await releaseReserve(this.root)
      await this.#removeFolder(paths, folder)
      // The next look at the repository makes it otherwise.
      await keepReserve(this.root).catch(() => {})
    }
  }

  /** Renames first: from the rename on, no crash leaves a folder with some of its files gone under a name that is trusted. */
  async #removeFolder(paths: BackupPaths, folder: string): Promise<void> {
    if (!(await isFolder(paths.vmFolder))) return
    await this.#removeLeftovers(paths)
    if (await isFolder(folder)) {
      await rename(folder, paths.deleting)
      await syncFolder(paths.vmFolder)
      await rm(paths.deleting, { recursive: true, force: true })
    }
    await rmdir(paths.vmFolder).catch(unlessOccupied)
    await syncFolder(vmsFolder(this.root))
  }

  async #removeLeftovers(paths: BackupPaths): Promise<void> {
    for (const name of await namesOfFolders(paths.vmFolder)) {
      if (backupFolderOf(name)?.kind !== 'deleting') continue
      // One with a locked file in it, which no deletion of ours leaves, must not keep the others of the VM from being removed.
      await rm(join(paths.vmFolder, name), { recursive: true, force: true }).catch(unlessLocked)
    }
  }

  async #confirmPublished(reference: BackupReference, paths: BackupPaths, manifest: Manifest): Promise<PublishedBackup> {
    const published = await readPublished(reference, paths.published)
    if (!isSameBackup(published.manifest, manifest)) throw alreadyPublished(reference)
    // The crash that makes us ask again may have come between the rename and this.
    await syncFolder(paths.vmFolder)
    return published
  }

  async #onFiles<T>(doing: string, run: () => Promise<T>, requiredBytes = FOLDER_BYTES): Promise<T> {
    await checkMarker(this.root, this.id)
    return onFiles(this.root, doing, run, requiredBytes)
  }
}

function unlessExists(error: unknown): void {
  if (errnoOf(error) !== 'EEXIST') throw error
}

function unlessLocked(error: unknown): void {
  if (!mayBeLock(error)) throw error
}

/** The VM's folder goes with its last backup; other backups in it, or somebody's file, keep it. */
function unlessOccupied(error: unknown): void {
  if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(errnoOf(error) ?? '')) throw error
}

async function requireFolder(path: string, root: string): Promise<void> {
  if (await isFolder(path)) return
  throw new HoldfastError('REPO_INVALID', `${path} is not a folder: a link or a file is in its place. Remove it.`, {
    details: { path: root },
  })
}

function notFound(reference: BackupReference, reason: string): HoldfastError {
  return new HoldfastError('BACKUP_NOT_FOUND', `Backup ${reference.backupId} ${reason}.`, {
    details: { backup_id: reference.backupId, vm_folder: reference.vmFolder },
  })
}

function alreadyPublished(reference: BackupReference): HoldfastError {
  return new HoldfastError(
    'INTERNAL',
    `Backup ${reference.backupId} is already published with another manifest; what is published is never changed.`,
    { details: { backup_id: reference.backupId } },
  )
}

function hasDependents(reference: BackupReference, dependents: string[]): HoldfastError {
  return new HoldfastError(
    'BACKUP_HAS_DEPENDENTS',
    `Backup ${reference.backupId} is needed by ${dependents.join(', ')}: delete those first.`,
    { details: { backup_id: reference.backupId, dependents } },
  )
}
