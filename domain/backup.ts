/** What a backup is: its types, states and the reasons it carries. */

export type BackupType = 'full' | 'incremental'

export const backupStates = ['pending', 'running', 'completed', 'failed', 'cancelled'] as const
export type BackupState = (typeof backupStates)[number]

/** Why a running backup waits: its repository is full, or does not answer. It goes on by itself. */
export const parkedReasons = ['repository_full', 'repository_unavailable'] as const
export type ParkedReason = (typeof parkedReasons)[number]

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
 * - `bitmap_lost`: the hypervisor's record of changes is missing or inconsistent, as after a crash of QEMU
 * - `checkpoint_missing`: the hypervisor no longer knows the point of the parent: reverted, migrated, or removed by another tool
 * - `restored_in_place`: the VM's disks were overwritten by a restore since the parent
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
  'bitmap_lost',
  'checkpoint_missing',
  'restored_in_place',
] as const
export type FullReason = (typeof fullReasons)[number]

/**
 * What a person should know of a backup that went well.
 * - `disk_excluded`: left out because somebody asked for that
 * - `disk_read_only` / `disk_unsupported`: left out because it holds nothing of the VM's own, or cannot be read consistently
 * - `disk_removed`: the parent has it, the VM no longer
 * - `no_change_tracking`: read from end to end although it is an incremental, because nothing records this disk's changes
 * - `consistency_reduced`: the guest could not be asked to settle its file systems
 */
export const warningCodes = [
  'disk_excluded',
  'disk_read_only',
  'disk_unsupported',
  'disk_removed',
  'no_change_tracking',
  'consistency_reduced',
] as const
export type WarningCode = (typeof warningCodes)[number]

export interface BackupWarning {
  code: WarningCode
  /** Key of the disk it is about; `null` when it is about the VM. */
  disk: string | null
  /** For people: what, why, and what can be done. */
  message: string
}

/** The guest's state at the instant of the snapshot. A disk image nobody writes to is as consistent as its last shutdown: `crash`. */
export type Consistency = 'application' | 'filesystem' | 'crash'

export type Compression = 'zstd' | 'none'

export type SourceType = 'disk-image' | 'libvirt' | 'vsphere'
export type RepositoryType = 'local' | 'nfs' | 'cifs' | 'smb' | 's3'
