/** Finding the files that a disk of a backup is made of. */
import type { ChainLink } from '../disks/chain.ts'
import { CHAIN_LENGTH_MAX } from '../domain/chain.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { ManifestDisk } from '../domain/manifest.ts'
import type { BackupReference, PublishedBackup, Repository } from '../repositories/repository.ts'

/** A catalog or manifest that goes round in circles must not make us do so. */
const WALK_MAX = CHAIN_LENGTH_MAX * 4

/** A published backup with what it builds on. */
export interface LoadedChain {
  newest: PublishedBackup
  /** Oldest (the full) first. */
  ancestors: PublishedBackup[]
}

/**
 * Reads the manifests of a chain. `BACKUP_NOT_FOUND` or `BACKUP_CORRUPT` when the backup itself cannot be read, `CORRUPT_CHAIN` when
 * one of its ancestors cannot, `REPO_UNAVAILABLE`.
 */
export async function loadChain(repository: Repository, reference: BackupReference): Promise<LoadedChain> {
  const newest = await repository.getBackup(reference)
  const ancestors: PublishedBackup[] = []
  for (let parentId = newest.manifest.parent_backup_id; parentId !== null;) {
    if (ancestors.length >= WALK_MAX) throw corrupt(reference.backupId, parentId, 'the chain has no beginning')
    const parent = await loadAncestor(repository, { vmFolder: reference.vmFolder, backupId: parentId }, reference.backupId)
    ancestors.unshift(parent)
    parentId = parent.manifest.parent_backup_id
  }
  return { newest, ancestors }
}

/** The links of one disk of the newest backup, oldest (its full) first. A disk that is a full within an incremental starts its own chain. */
export function linksOfDisk({ newest, ancestors }: LoadedChain, disk: ManifestDisk): ChainLink[] {
  const links: ChainLink[] = [{ backupId: newest.backupId, folder: newest.folder, disk }]
  const older = [...ancestors]
  for (let backing = disk.backing_file; backing !== null;) {
    const parent = older.pop()
    const parentDisk = parent?.manifest.disks.find((candidate) => backing === `../${parent.backupId}/${candidate.file}`)
    if (!parent || !parentDisk) throw corrupt(newest.backupId, backing, 'no backup of the chain has this file')
    links.unshift({ backupId: parent.backupId, folder: parent.folder, disk: parentDisk })
    backing = parentDisk.backing_file
  }
  return links
}

/** The disk with this index. `DISK_NOT_FOUND` */
export function diskOf(backup: Pick<PublishedBackup, 'backupId' | 'manifest'>, diskIndex: number): ManifestDisk {
  const disk = backup.manifest.disks.find((candidate) => candidate.index === diskIndex)
  if (disk) return disk
  const indexes = backup.manifest.disks.map((candidate) => candidate.index)
  throw new HoldfastError('DISK_NOT_FOUND', `Backup ${backup.backupId} has no disk ${diskIndex}; it has ${indexes.join(', ')}.`, {
    details: { backup_id: backup.backupId, disk_index: diskIndex, disk_indexes: indexes },
  })
}

async function loadAncestor(repository: Repository, ancestor: BackupReference, backupId: string): Promise<PublishedBackup> {
  try {
    return await repository.getBackup(ancestor)
  } catch (error) {
    const broken = error instanceof HoldfastError && (error.code === 'BACKUP_NOT_FOUND' || error.code === 'BACKUP_CORRUPT')
    throw broken ? corrupt(backupId, ancestor.backupId, error.message, error) : error
  }
}

function corrupt(backupId: string, missing: string, why: string, cause?: unknown): HoldfastError {
  return new HoldfastError('CORRUPT_CHAIN', `Backup ${backupId} cannot be read: it needs ${missing}, but ${why}.`, {
    cause,
    details: { backup_id: backupId, missing },
  })
}
