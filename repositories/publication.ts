/** What must hold before a staged folder may get its published name. */
import { lstat, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import type { Manifest, ManifestDisk } from '../domain/manifest.ts'
import { isFolder, readPublished } from './backup-folders.ts'
import { syncFolderWithFiles } from './durable-files.ts'
import { errnoOf } from './file-errors.ts'
import { writeManifestFile } from './manifest-file.ts'
import { parentDiskIndex } from './manifest-schema.ts'
import { MANIFEST_FILE } from './paths.ts'
import type { BackupReference } from './repository.ts'

/** Checks the files against the manifest, removes the journals, writes the manifest and makes all of it durable. Safe to repeat. */
export async function prepareForPublication(reference: BackupReference, staged: string, manifest: Manifest): Promise<void> {
  if (manifest.backup_id !== reference.backupId) {
    throw new HoldfastError('INTERNAL', `Backup ${reference.backupId} was given the manifest of ${manifest.backup_id}.`)
  }
  for (const disk of manifest.disks) await checkFiles(reference, staged, disk)
  await removeJournals(staged)
  await writeManifestFile(join(staged, MANIFEST_FILE), manifest)
  await syncFolderWithFiles(staged)
}

/** `CORRUPT_CHAIN` unless the parent is published, readable, and has the disks that this backup's disks continue. */
export async function checkParent(manifest: Manifest, vmFolder: string, parent: BackupReference): Promise<void> {
  const folder = join(vmFolder, parent.backupId)
  if (!(await isFolder(folder))) throw corruptChain(manifest, `its parent ${parent.backupId} is not published`)
  const found = await readPublished(parent, folder).catch((cause: unknown) => {
    if (cause instanceof HoldfastError) throw corruptChain(manifest, `its parent ${parent.backupId} is damaged`, cause)
    throw cause
  })
  const indexes = new Set(found.manifest.disks.map((disk) => disk.index))
  for (const disk of manifest.disks) {
    const wanted = parentDiskIndex(disk, parent.backupId)
    if (wanted !== null && !indexes.has(wanted)) {
      throw corruptChain(manifest, `disk ${disk.index} continues disk ${wanted} of ${parent.backupId}, which has no such disk`)
    }
  }
}

/** Whether two manifests are of one and the same backup: a step that is repeated after a crash brings a later clock, nothing else. */
export function isSameBackup(published: Manifest, given: Manifest): boolean {
  const comparable = (manifest: Manifest): string => JSON.stringify(sorted({ ...manifest, published_at: '' }))
  return comparable(published) === comparable(given)
}

async function checkFiles(reference: BackupReference, staged: string, disk: ManifestDisk): Promise<void> {
  const size = await regularFileSize(join(staged, disk.file))
  if (size === disk.file_size_bytes && (await regularFileSize(join(staged, disk.blocks_file))) !== null) return
  throw new HoldfastError(
    'INTERNAL',
    `Backup ${reference.backupId} was not published: the files of disk ${disk.index} in ${staged} are not those of its manifest.`,
    { details: { backup_id: reference.backupId, disk_index: disk.index, file_size_bytes: size } },
  )
}

async function regularFileSize(path: string): Promise<number | null> {
  try {
    const stats = await lstat(path)
    return stats.isFile() ? stats.size : null
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}

/** They say how far a transfer got: of no use to a backup that is whole. */
async function removeJournals(staged: string): Promise<void> {
  for (const name of await readdir(staged)) {
    if (name.endsWith('.journal')) await rm(join(staged, name), { force: true })
  }
}

function corruptChain(manifest: Manifest, reason: string, cause?: unknown): HoldfastError {
  return new HoldfastError('CORRUPT_CHAIN', `Backup ${manifest.backup_id} was not published: ${reason}.`, {
    cause,
    details: { backup_id: manifest.backup_id, parent_backup_id: manifest.parent_backup_id, reason },
  })
}

/** The same value with every object's members in one order: a manifest that travelled as JSON through other hands may be in another. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([left], [right]) => (left < right ? -1 : 1))
      .map(([key, member]) => [key, sorted(member)]),
  )
}
