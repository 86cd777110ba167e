/** What a backup is: its types, states and the reasons it carries. */

export type BackupType = 'full' | 'incremental'

export const backupStates = ['pending', 'running', 'completed', 'failed', 'cancelled'] as const
export type BackupState = (typeof backupStates)[number]

/** State of one disk inside a backup, and of a restore. */
export type WorkState = BackupState

/** Whether a backup has been read back and compared with its birth hashes. `failed` excludes it as a parent for ever. */
export type VerificationState = 'unverified' | 'passed' | 'failed'

/**
 * Why a backup, or one disk of it, is a full.
 * - `requested`: the caller asked for a full
 * - `first_backup`: no completed backup of this VM exists in the repository
 * - `parent_failed_verification`: the newest backup, or one it depends on, failed verification
 * - `parent_missing`: the catalog knows the parent but its files are gone or unreadable
 * - `chain_limit`: the chain has reached its greatest length
 * - `disk_added` / `disk_shrunk` / `disk_replaced`: this disk cannot continue its chain; the others go on
 */
export const fullReasons = [
  'requested',
  'first_backup',
  'parent_failed_verification',
  'parent_missing',
  'chain_limit',
  'disk_added',
  'disk_shrunk',
  'disk_replaced',
] as const
export type FullReason = (typeof fullReasons)[number]

/** The guest's state at the instant of the snapshot. A disk image nobody writes to is as consistent as its last shutdown: `crash`. */
export type Consistency = 'application' | 'filesystem' | 'crash'

export type Compression = 'zstd' | 'none'

export type SourceType = 'disk-image' | 'libvirt' | 'vsphere'
export type RepositoryType = 'local' | 'nfs' | 'cifs' | 'smb' | 's3'
