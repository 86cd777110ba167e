/** Pure rules about chains: which backup may be a parent, what depends on what, what a new backup must be. */
import type { BackupState, BackupType, FullReason, VerificationState } from './backup.ts'

/** Longest chain, full included. Opening and reading fan out over every link. */
export const CHAIN_LENGTH_MAX = 30

/** A backup as the chain rules see it; one repository, one VM. */
export interface ChainBackup {
  id: string
  parentBackupId: string | null
  backupType: BackupType
  state: BackupState
  verification: VerificationState
  disks: ChainDisk[]
}

export interface ChainDisk {
  index: number
  key: string
  sizeBytes: number
}

export type BackupDecision =
  | { backupType: 'full'; fullReason: FullReason; detail: string }
  | { backupType: 'incremental'; parentBackupId: string; chainLength: number }

export type DiskDecision =
  | { backupType: 'full'; fullReason: FullReason; detail: string }
  | { backupType: 'incremental'; parentDiskIndex: number }

/**
 * What a source says, before anything is frozen, about a disk's changes since its parent.
 * - `tracked`: it knows which ranges changed; `changedBytes` of them until now
 * - `untracked`: nothing records this disk's changes; all of it must be read and compared with the parent's hashes
 * - `lost`: changes were recorded, and the record cannot be used
 */
export type Tracking =
  | { state: 'tracked'; changedBytes: number }
  | { state: 'untracked'; detail: string }
  | { state: 'lost'; fullReason: Extract<FullReason, 'bitmap_lost' | 'checkpoint_missing'>; detail: string }

/** Ancestors of `id`, oldest (the full) first, `id` itself last. Throws nothing: an incomplete chain simply starts later, see {@link isWholeChain}. */
export function chainOf(id: string, backups: ReadonlyMap<string, ChainBackup>): ChainBackup[] {
  const chain: ChainBackup[] = []
  const seen = new Set<string>()
  let current = backups.get(id)
  while (current && !seen.has(current.id)) {
    seen.add(current.id)
    chain.unshift(current)
    current = current.parentBackupId === null ? undefined : backups.get(current.parentBackupId)
  }
  return chain
}

/** A chain is whole when it begins with a full and every link is completed. */
export function isWholeChain(chain: readonly ChainBackup[]): boolean {
  return chain[0]?.parentBackupId === null && chain.every((backup) => backup.state === 'completed')
}

/** Ids of all backups that need `id` to be read, direct and indirect, in the order given. */
export function dependentsOf(id: string, backups: readonly ChainBackup[]): string[] {
  const needed = new Set([id])
  const dependents: string[] = []
  // Parents may stand after children in the input, so go round until nothing is added.
  for (let grown = true; grown;) {
    grown = false
    for (const backup of backups) {
      if (backup.parentBackupId !== null && needed.has(backup.parentBackupId) && !needed.has(backup.id)) {
        needed.add(backup.id)
        dependents.push(backup.id)
        grown = true
      }
    }
  }
  return backups.filter((backup) => dependents.includes(backup.id)).map((backup) => backup.id)
}

/**
 * What a requested backup becomes.
 * @param newestFirst every backup of this VM in this repository, newest first, of any state.
 */
export function decideBackup(requested: BackupType, newestFirst: readonly ChainBackup[]): BackupDecision {
  if (requested === 'full') return { backupType: 'full', fullReason: 'requested', detail: 'a full was asked for' }
  const newest = newestFirst.find((backup) => backup.state === 'completed')
  if (!newest) {
    return { backupType: 'full', fullReason: 'first_backup', detail: 'this VM has no completed backup in this repository' }
  }
  const chain = chainOf(newest.id, new Map(newestFirst.map((backup) => [backup.id, backup])))
  const damaged = chain.find((backup) => backup.verification === 'failed')
  if (damaged) {
    return { backupType: 'full', fullReason: 'parent_failed_verification', detail: `backup ${damaged.id} failed verification` }
  }
  if (!isWholeChain(chain)) {
    return { backupType: 'full', fullReason: 'parent_missing', detail: `the chain of backup ${newest.id} is not whole` }
  }
  if (chain.length >= CHAIN_LENGTH_MAX) {
    return { backupType: 'full', fullReason: 'chain_limit', detail: `the chain holds ${chain.length} backups, the most allowed` }
  }
  return { backupType: 'incremental', parentBackupId: newest.id, chainLength: chain.length + 1 }
}

/**
 * What one disk of an incremental backup becomes: a disk that cannot continue its chain is a full for itself alone.
 * @param present all disks that the VM has now, `disk` among them.
 */
export function decideDisk(
  disk: ChainDisk,
  parent: ChainBackup,
  tracking: Tracking,
  present: readonly ChainDisk[],
): DiskDecision {
  const same = parent.disks.find((candidate) => candidate.key === disk.key)
  if (!same) {
    const predecessor = parent.disks.find((candidate) => candidate.index === disk.index)
    const replaced = predecessor !== undefined && !present.some((candidate) => candidate.key === predecessor.key)
    const what = replaced ? 'replaced another' : 'was added'
    return { backupType: 'full', fullReason: replaced ? 'disk_replaced' : 'disk_added', detail: `disk "${disk.key}" ${what}` }
  }
  if (disk.sizeBytes < same.sizeBytes) {
    const detail = `disk "${disk.key}" has ${disk.sizeBytes} bytes, its parent ${same.sizeBytes}`
    return { backupType: 'full', fullReason: 'disk_shrunk', detail }
  }
  if (tracking.state === 'lost') return { backupType: 'full', fullReason: tracking.fullReason, detail: tracking.detail }
  return { backupType: 'incremental', parentDiskIndex: same.index }
}
