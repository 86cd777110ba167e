/** The catalog's tables as Kysely sees them. Times are UTC; sizes are bytes. Migrations in `migrations/` are the authority. */
import type { ColumnType, Generated } from 'kysely'
import type {
  BackupState,
  BackupType,
  BackupWarning,
  Compression,
  Consistency,
  FullReason,
  ParkedReason,
  RepositoryType,
  SourceType,
  VerificationState,
  WorkState,
} from '../domain/backup.ts'
import type { AlertKind, AlertSeverity } from '../domain/alerts.ts'
import type { ErrorCode, JsonObject } from '../domain/errors.ts'
import type { Enforcement, ImmutabilityMethod } from '../domain/immutability.ts'
import type { DriverName, MountState, Volume } from '../domain/restore-mount.ts'
import type { RestoreTarget, VmTarget } from '../domain/restore.ts'
import type { HealthState } from '../domain/storage-health.ts'

/** Set by the database on insert. */
type CreatedAt = ColumnType<Date, Date | undefined, never>
type UpdatedAt = ColumnType<Date, Date | undefined, Date | undefined>
/** A JSON column: parsed when read, given as text. */
type Json<T> = ColumnType<T, string, string>
type Flag = ColumnType<boolean, boolean | undefined, boolean>

export interface Database {
  users: UsersTable
  backup_repositories: BackupRepositoriesTable
  repository_samples: RepositorySamplesTable
  repository_reservations: RepositoryReservationsTable
  alerts: AlertsTable
  sources: SourcesTable
  sealed_credentials: SealedCredentialsTable
  vm_contexts: VmContextsTable
  vm_disks: VmDisksTable
  backup_jobs: BackupJobsTable
  backup_disks: BackupDisksTable
  backup_chains: BackupChainsTable
  backup_pins: BackupPinsTable
  restore_jobs: RestoreJobsTable
  restore_mounts: RestoreMountsTable
  mover_endpoints: MoverEndpointsTable
  audit_events: AuditEventsTable
  idempotency_keys: IdempotencyKeysTable
}

export interface UsersTable {
  id: string
  username: string
  password_hash: string
  role: 'admin' | 'operator' | 'viewer'
  created_at: CreatedAt
}

export interface BackupRepositoriesTable {
  id: string
  name: string
  repository_type: RepositoryType
  enabled: Flag
  /** As `domain/repository-place.ts` says. Never a credential. */
  config: Json<JsonObject>
  /** The mover that reaches it. */
  host_id: string
  total_size_bytes: Generated<number>
  used_size_bytes: Generated<number>
  available_size_bytes: Generated<number>
  last_check_at: Date | null
  /** In `sealed_credentials`; `null` when its place needs none. */
  credentials_id: ColumnType<string | null, string | null | undefined, string | null>
  /** Mounted when its mover starts; otherwise on demand only. */
  auto_mount: Flag
  total_inodes: Generated<number>
  used_inodes: Generated<number>
  /** Of the last look's write test, whole; `null` when it did not answer. */
  latency_ms: ColumnType<number | null, number | null | undefined, number | null>
  health: ColumnType<HealthState, HealthState | undefined, HealthState>
  health_message: ColumnType<string | null, string | null | undefined, string | null>
  /** Since when it is what it is. */
  health_since: ColumnType<Date | null, Date | null | undefined, Date | null>
  /** Since when the monitor keeps new backups away; `null` while it does not. `enabled` is the administrator's. */
  stopped_at: ColumnType<Date | null, Date | null | undefined, Date | null>
  /** `null`: the default thresholds. */
  warning_percent: ColumnType<number | null, number | null | undefined, number | null>
  critical_percent: ColumnType<number | null, number | null | undefined, number | null>
  is_immutable: Flag
  immutable_method: ColumnType<ImmutabilityMethod | null, ImmutabilityMethod | null | undefined, ImmutabilityMethod | null>
  /** Days for which a published backup is locked. */
  retention_period_days: ColumnType<number | null, number | null | undefined, number | null>
  /** No backup goes before it is so old, locked or not, and no lock is set for less. */
  min_retention_days: ColumnType<number | null, number | null | undefined, number | null>
  /** What really enforces it, as last tried; `null` while nobody has tried. */
  enforced_by: ColumnType<
    Enforcement['enforcedBy'] | null,
    Enforcement['enforcedBy'] | null | undefined,
    Enforcement['enforcedBy'] | null
  >
  enforcement_reason: ColumnType<string | null, string | null | undefined, string | null>
  /** When the locks were last seen to hold. */
  attested_at: ColumnType<Date | null, Date | null | undefined, Date | null>
  created_at: CreatedAt
  updated_at: UpdatedAt
}

/** What looks at repositories found, for trends. */
export interface RepositorySamplesTable {
  repository_id: string
  sampled_at: Date
  total_bytes: number
  used_bytes: number
  available_bytes: number
  used_inodes: number
  total_inodes: number
  latency_ms: number | null
  health: HealthState
}

/** Space that admitted backups count on and have not written yet. */
export interface RepositoryReservationsTable {
  backup_id: string
  repository_id: string
  reserved_bytes: number
  created_at: CreatedAt
}

export interface AlertsTable {
  /** `alert-<ulid, lower case>` */
  id: string
  kind: AlertKind
  /** `alertCause()`. */
  cause: string
  severity: AlertSeverity
  repository_id: string | null
  backup_id: string | null
  message: string
  details: Json<JsonObject>
  opened_at: Date
  /** When the cause was last seen to last. */
  seen_at: Date
  acknowledged_at: Date | null
  acknowledged_by: string | null
  resolved_at: Date | null
  /** Computed: the cause while the alert is not resolved; unique. */
  open_cause: ColumnType<string | null, never, never>
}

/** A connection to a platform that VMs come from. */
export interface SourcesTable {
  /** `source-<ulid, lower case>` */
  id: string
  name: string
  source_type: SourceType
  /** libvirt: `{ "uri", "scratch_folder", "ssh_known_hosts" }`. Never a credential. */
  config: Json<JsonObject>
  credentials_id: string | null
  /** The mover that reaches it. */
  host_id: string
  /** More wait until one has ended. */
  max_concurrent_backups: Generated<number>
  /** Of the last test or discovery. */
  status: ColumnType<SourceState, SourceState | undefined, SourceState>
  /** For people, of the last test that succeeded: `QEMU 7.2.0, libvirt 9.0.0`. */
  version: string | null
  /** The platform's own, of the last test that succeeded. */
  hostname: string | null
  /** What will not work, and what to do about it; of the last test that succeeded. */
  warnings: ColumnType<string[], string | undefined, string>
  error_code: ErrorCode | null
  error_message: string | null
  last_tested_at: Date | null
  last_discovered_at: Date | null
  created_at: CreatedAt
  updated_at: UpdatedAt
}

export type SourceState = 'untested' | 'reachable' | 'unreachable'

/** AES-256-GCM under the key file outside the catalog; `security/sealed-credentials.ts` is the only reader and writer. */
export interface SealedCredentialsTable {
  id: string
  sealed: Buffer
  created_at: CreatedAt
}

export interface VmContextsTable {
  /** `ctx-<ulid, lower case>` */
  context_id: string
  vm_name: string
  source_type: SourceType
  /** disk-image: `{ "disks": [{ "key", "label", "format", "path" | "uri" }] }`; libvirt: `{ "uuid", "excluded_disks": ["vdb"] }` */
  config: Json<JsonObject>
  /** The mover that reaches the disks. */
  host_id: string
  /** The connection that it was discovered through; `null` for VMs that were registered by hand. */
  source_id: string | null
  /** The platform's own lasting id (libvirt: UUID); unique per connection. */
  external_id: string | null
  /** `ready`, or `vanished`: the last discovery did not find it. */
  current_status: Generated<'ready' | 'vanished'>
  power_state: Generated<'on' | 'off' | 'unknown'>
  cpu_count: number | null
  memory_mb: number | null
  os_type: string | null
  last_seen_at: Date | null
  /** When a restore last overwrote the disks: nothing older can be a parent. */
  restored_in_place_at: Date | null
  created_at: CreatedAt
  updated_at: UpdatedAt
}

export interface VmDisksTable {
  vm_context_id: string
  disk_index: number
  disk_key: string
  label: string
  format: string
  /** Where it lies on its platform; `null` where the key or the VM's config says so. */
  path: string | null
  size_bytes: number
}

export interface BackupJobsTable {
  id: string
  vm_context_id: string
  vm_name: string
  repository_id: string
  policy_id: string | null
  requested_type: BackupType
  backup_type: BackupType
  full_reason: FullReason | null
  full_reason_detail: string | null
  status: ColumnType<BackupState, BackupState | undefined, BackupState>
  /** `vms/<vm folder>/<backup id>` relative to the repository's root. */
  repository_path: string
  parent_backup_id: string | null
  consistency: Consistency | null
  consistency_reason: string | null
  warnings: ColumnType<BackupWarning[], string | undefined, string>
  compression: Compression
  /** Bytes of all disks, as the guest sees them. */
  total_bytes: Generated<number>
  /** Bytes dealt with so far. */
  processed_bytes: Generated<number>
  /** Bytes written to the repository before compression. */
  bytes_transferred: Generated<number>
  /** Size of the published files. */
  size_bytes: Generated<number>
  rate_limit_bytes_per_second: number | null
  verification_status: Generated<VerificationState>
  verified_at: Date | null
  verification_message: string | null
  error_code: ErrorCode | null
  error_message: string | null
  workflow_id: string
  /** When it took one of its source's slots; `null` while it waits, or needs none. */
  source_slot_at: ColumnType<Date | null, Date | null | undefined, Date | null>
  /** While it waits for room or for its repository: why, since when, in words. */
  parked_reason: ColumnType<ParkedReason | null, ParkedReason | null | undefined, ParkedReason | null>
  parked_at: ColumnType<Date | null, Date | null | undefined, Date | null>
  parked_message: ColumnType<string | null, string | null | undefined, string | null>
  /** Until when its files are locked; later than its own retention while a backup that needs it is locked longer. */
  locked_until: ColumnType<Date | null, Date | null | undefined, Date | null>
  created_at: CreatedAt
  started_at: Date | null
  completed_at: Date | null
}

export interface BackupDisksTable {
  id: Generated<number>
  backup_job_id: string
  disk_index: number
  disk_key: string
  label: string
  backup_type: BackupType
  full_reason: FullReason | null
  full_reason_detail: string | null
  /** Absolute path of the QCOW2 once published. */
  qcow2_path: string
  size_bytes: number
  file_size_bytes: Generated<number>
  processed_bytes: Generated<number>
  bytes_transferred: Generated<number>
  rate_bytes_per_second: Generated<number>
  /** Where the last attempt resumed, in bytes of the disk; 0 when it began at the beginning. */
  resumed_at_bytes: Generated<number>
  attempt: Generated<number>
  disk_change_id: string | null
  blocks_sha256: string | null
  status: ColumnType<WorkState, WorkState | undefined, WorkState>
  error_message: string | null
  /** While this disk waits for room or for its repository: since when. The backup's row says why. */
  parked_at: ColumnType<Date | null, Date | null | undefined, Date | null>
  progress_at: Date | null
  completed_at: Date | null
}

/** One row per full backup and disk: the chain that hangs on it. */
export interface BackupChainsTable {
  id: string
  vm_context_id: string
  repository_id: string
  disk_id: number
  full_backup_id: string
  latest_backup_id: string
  total_backups: Generated<number>
  total_size_bytes: Generated<number>
  created_at: CreatedAt
  updated_at: UpdatedAt
}

/** Who is reading a backup now: deletion and retention refuse while a pin stands. */
export interface BackupPinsTable {
  backup_id: string
  owner_workflow_id: string
  reason: string
  created_at: CreatedAt
}

/**
 * Restores. One of a whole VM has a row without a file, and a row below it for each disk; a row with a file is of one disk, whether it
 * stands alone or below another.
 */
export interface RestoreJobsTable {
  id: string
  /** Of the VM restore that this disk belongs to. */
  parent_restore_id: string | null
  backup_id: string
  vm_name: string
  target_type: ColumnType<RestoreTarget, RestoreTarget | undefined, RestoreTarget>
  /** Of a VM restore. */
  target: Json<VmTarget> | null
  disk_index: number | null
  target_path: string | null
  /** Of a VM's disk: the name it gets when the whole VM is there. */
  final_path: string | null
  /** Of a VM restore, once its VM is there: the platform's id of that. */
  external_id: string | null
  /** Of a VM restore: what the VM has not got, or has in another form. */
  warnings: ColumnType<string[], string | undefined, string>
  target_format: 'raw' | 'qcow2' | null
  status: ColumnType<WorkState, WorkState | undefined, WorkState>
  total_bytes: Generated<number>
  processed_bytes: Generated<number>
  rate_bytes_per_second: Generated<number>
  resumed_at_bytes: Generated<number>
  error_code: ErrorCode | null
  error_message: string | null
  workflow_id: string
  created_at: CreatedAt
  started_at: Date | null
  completed_at: Date | null
  /** Computed: the target's SHA-256 while it is being written; unique. */
  target_in_use: ColumnType<string | null, never, never>
}

/** Restore mounts that exist now; the row goes when the disk is unmounted. */
export interface RestoreMountsTable {
  /** UUID, always the same for one disk of one backup. */
  id: string
  backup_id: string
  backup_disk_id: number
  disk_index: number
  host_id: string
  /** Of the host that holds it; `null` until it is mounted. */
  driver: DriverName | null
  status: ColumnType<MountState, MountState | undefined, MountState>
  /** The folder of the mount on its host; empty until it is mounted. */
  mount_path: string
  /** The exported file or block device in use; empty until it is mounted. */
  nbd_device: string
  /** Of the readable volumes, joined by ", "; empty until it is mounted. */
  filesystem_type: string
  volumes: ColumnType<Volume[], string | undefined, string>
  idle_seconds: number
  maximum_seconds: number
  /** When somebody last read from it or extended it. Movers note accesses now and then, not each. */
  last_access_at: Date
  workflow_id: string
  created_at: CreatedAt
}

/** Where the movers' file services listen. */
export interface MoverEndpointsTable {
  host_id: string
  /** `http://127.0.0.1:…` or `https://…`. */
  files_url: string
  /** PEM of the certificate that the service shows; `null` without TLS. */
  certificate: string | null
  /** Of the mover process; a new one replaces the row. */
  instance_id: string
  updated_at: UpdatedAt
}

/** Who did what, when. Rows are only ever added. */
export interface AuditEventsTable {
  id: Generated<number>
  at: CreatedAt
  user_id: string
  username: string
  /** `file.list`, `file.download`, `mount.open` …: the noun, then what was done. */
  action: string
  subject_type: string
  subject_id: string
  details: Json<JsonObject>
  request_id: string
  /** Of who asked; `null` when it is not known. */
  remote_address: string | null
}

export interface IdempotencyKeysTable {
  user_id: string
  idempotency_key: string
  /** SHA-256 (hex) of method, path and body: the same key with another request is a conflict. */
  request_sha256: string
  status_code: number | null
  response: Json<JsonObject> | null
  created_at: CreatedAt
}
