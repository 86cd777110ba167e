/** Reading the folders of a repository: what is there, without following links and without taking a failure for absence. */
import { lstat, readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import type { Manifest } from '../domain/manifest.ts'
import { errnoOf } from './file-errors.ts'
import { readManifestFile } from './manifest-file.ts'
import { MANIFEST_FILE, backupFolderOf, isVmFolder, vmFolderPath, vmsFolder } from './paths.ts'
import type { BackupListing, BackupReference, PublishedBackup } from './repository.ts'

/** Whether a real folder lies at `path`; a link or a file does not count. Throws what a failing read throws. */
export async function isFolder(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isDirectory()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}

/** Folders and files of one name, sorted; empty when the folder does not exist. */
export async function namesOfFolders(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true })
    return entries
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
      .sort()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

/** VM folders of the repository. `REPO_INVALID` when `vms` is gone although the repository is there. */
export async function vmFoldersOf(root: string): Promise<string[]> {
  if (!(await isFolder(vmsFolder(root)))) {
    throw new HoldfastError('REPO_INVALID', `Repository ${root} has lost its folder "vms": its backups were moved or deleted.`, {
      details: { path: root },
    })
  }
  return (await namesOfFolders(vmsFolder(root))).filter(isVmFolder)
}

/** Reads one published folder. `BACKUP_CORRUPT` when the manifest is damaged or belongs to another backup. */
export async function readPublished(reference: BackupReference, folder: string): Promise<PublishedBackup> {
  const manifest = await readManifestFile(join(folder, MANIFEST_FILE))
  if (manifest.backup_id !== reference.backupId) {
    const reason = `the manifest in ${folder} is that of backup ${manifest.backup_id}`
    throw new HoldfastError('BACKUP_CORRUPT', `Backup ${reference.backupId} cannot be used: ${reason}.`, {
      details: { backup_id: reference.backupId, reason },
    })
  }
  return { vmFolder: reference.vmFolder, backupId: reference.backupId, folder, manifest }
}

/** Adds everything in one VM's folder to `listing`. */
export async function listVmFolder(root: string, vmFolder: string, listing: BackupListing): Promise<void> {
  const path = vmFolderPath(root, vmFolder)
  if (!(await isFolder(path))) return
  for (const name of await namesOfFolders(path)) {
    const found = backupFolderOf(name)
    const folder = join(path, name)
    if (found?.kind === 'staged') listing.staged.push({ vmFolder, backupId: found.backupId, folder })
    if (found?.kind === 'published') await listPublished({ vmFolder, backupId: found.backupId }, folder, listing)
  }
}

async function listPublished(reference: BackupReference, folder: string, listing: BackupListing): Promise<void> {
  try {
    listing.backups.push(await readPublished(reference, folder))
  } catch (error) {
    if (!(error instanceof HoldfastError) || error.code !== 'BACKUP_CORRUPT') throw error
    // Renamed for deletion since its name was read: it is not damaged, it is gone.
    if (!(await isFolder(folder))) return
    listing.damaged.push({ ...reference, folder, reason: error.message })
  }
}

/** Ids of the published backups beside `parentId` that cannot be read without it, sorted. */
export async function dependentsOn(parentId: string, root: string, vmFolder: string): Promise<string[]> {
  const listing: BackupListing = { backups: [], damaged: [], staged: [] }
  await listVmFolder(root, vmFolder, listing)
  const dependents = listing.backups.filter((backup) => dependsOn(backup.manifest, parentId)).map((backup) => backup.backupId)
  for (const { backupId, folder } of listing.damaged) {
    if (backupId !== parentId && (await mayDependOn(folder, parentId))) dependents.push(backupId)
  }
  return dependents.sort()
}

function dependsOn(manifest: Manifest, parentId: string): boolean {
  return manifest.parent_backup_id === parentId
}

/** A damaged manifest can no longer be believed, but while it still names the parent, deleting the parent would bury the last chance to repair. */
async function mayDependOn(folder: string, parentId: string): Promise<boolean> {
  try {
    return (await readFile(join(folder, MANIFEST_FILE), 'latin1')).includes(parentId)
  } catch (error) {
    if (['ENOENT', 'EISDIR', 'ELOOP'].includes(errnoOf(error) ?? '')) return false
    throw error
  }
}
