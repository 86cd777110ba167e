/**
 * The manifest: the JSON file that makes a backup complete. A backup exists if and only if its published folder holds a valid one.
 * Field names are `snake_case` because the file is read by people and other tools; format in docs/on-disk-format.md.
 */
import type { BackupType, BackupWarning, Compression, Consistency, FullReason, SourceType } from './backup.ts'
import type { JsonObject } from './errors.ts'

export const MANIFEST_FORMAT = 'holdfast-backup'
export const MANIFEST_VERSION = 1

export interface Manifest {
  format: typeof MANIFEST_FORMAT
  format_version: typeof MANIFEST_VERSION
  backup_id: string
  vm: ManifestVm
  backup_type: BackupType
  /** Why this is a full; `null` for an incremental. */
  full_reason: FullReason | null
  parent_backup_id: string | null
  /** RFC 3339, UTC: the instant of the snapshot that all disks show. */
  snapshot_at: string
  /** RFC 3339, UTC: when the folder was made ready for its rename. */
  published_at: string
  consistency: Consistency
  consistency_reason: string
  /** What a person should know of it, for example which disks were left out; usually empty. */
  warnings: BackupWarning[]
  compression: Compression
  disks: ManifestDisk[]
  versions: { holdfast: string; qemu: string }
}

export interface ManifestVm {
  context_id: string
  name: string
  source_type: SourceType
  /** What the source needs to define the VM again (libvirt: domain XML …). Never a credential. */
  config: JsonObject
}

export interface ManifestDisk {
  index: number
  /** Stable identity of the disk within its VM, from the source (path, URI, target, device key). */
  key: string
  label: string
  /** What the guest sees. */
  size_bytes: number
  backup_type: BackupType
  full_reason: FullReason | null
  /** `disk-<index>.qcow2`, beside the manifest. */
  file: string
  file_size_bytes: number
  /** Relative name in the QCOW2 header, `../<parent backup id>/disk-<n>.qcow2`; `null` for a full. */
  backing_file: string | null
  /** `disk-<index>.blocks`, beside the manifest. */
  blocks_file: string
  /** Hash root: SHA-256 (hex) over the whole blocks file, which holds every block's SHA-256. */
  blocks_sha256: string
  /** The source's token for "what changed since this backup". */
  change_id: string | null
  /** Bytes of this disk that were written to the QCOW2 (before compression). */
  written_bytes: number
}
