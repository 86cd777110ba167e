/**
 * What the API may ask of Temporal, in the product's verbs. `client-operations.ts` implements it; only this folder knows
 * workflow ids, queue names and search attributes. Every method throws `HoldfastError`s: those raised inside the workflow come
 * back with their code; `ORCHESTRATOR_UNAVAILABLE` when Temporal cannot be reached, `MOVER_UNAVAILABLE` when no mover took the work.
 */
import type { BackupType, Compression, FullReason, RepositoryType, SourceType } from '../domain/backup.ts'
import type { JsonObject } from '../domain/errors.ts'
import type { Attestation, Enforcement } from '../domain/immutability.ts'
import type { RepositorySettings } from '../domain/repository-settings.ts'
import type { VmTarget } from '../domain/restore.ts'
import type { StorageInfo } from '../domain/storage.ts'
import type { MountState } from '../hosting/hosted-repository.ts'
import type { PlatformInfo, VmDescription } from '../sources/source.ts'

export interface StartBackupRequest {
  backupId: string
  vmContextId: string
  repositoryId: string
  backupType: BackupType
  compression: Compression
  rateLimitBytesPerSecond: number | null
}

/** The answer of admission: what the backup will be and what it may need. `null` fields: not decided within the deadline. */
export interface BackupAdmission {
  backupId: string
  backupType: BackupType
  fullReason: FullReason | null
  fullReasonDetail: string | null
  parentBackupId: string | null
  /** Bytes the repository may need: the most for fulls, an estimate for incrementals. 0 when not decided yet. */
  estimatedSizeBytes: number
  /** False: Temporal has it, but no mover answered within the deadline; the backup waits. */
  decided: boolean
}

export interface RestoreDiskRequest {
  restoreId: string
  backupId: string
  diskIndex: number
  targetPath: string
  targetFormat: 'raw' | 'qcow2'
}

/** All or some disks of a backup, made into a VM. */
export interface RestoreVmRequest {
  restoreId: string
  backupId: string
  diskIndexes: number[]
  target: VmTarget
}

export interface RegisterVmRequest {
  contextId: string
  vmName: string
  sourceType: SourceType
  hostId: string
  config: JsonObject
}

/** A repository, registered or not. Credentials are referred to: this travels through histories. */
export interface RepositoryRequest {
  repositoryId: string
  name: string
  type: RepositoryType
  hostId: string
  config: JsonObject
  /** Absent as `null`: nothing is needed. */
  credentialsId?: string | null
}

export interface RegisterRepositoryRequest extends RepositoryRequest {
  /** What is not given has its default. */
  settings?: Partial<RepositorySettings>
}

export interface TestRepositoryRequest extends RepositoryRequest {
  /** Whether it is tried, too, that what is locked there stays as it is. */
  tryImmutability?: boolean
}

/** What is not given stays. */
export interface ChangeRepositoryRequest {
  repositoryId: string
  hostId: string
  name?: string
  settings?: Partial<RepositorySettings>
  /** Where the same repository is reached from now on. */
  place?: { config: JsonObject; credentialsId: string | null }
}

/** A repository of the catalog, and the host that reaches it. */
export interface RepositoryOfHost {
  repositoryId: string
  hostId: string
}

/** What a look at a repository's place found. */
export interface RepositoryFindings {
  storage: StorageInfo
  /** `null`: not tried. */
  enforcement: Enforcement | null
}

/** What looks at repositories came to. */
export interface StorageRefresh {
  /** Those that answered, and those that did not. */
  refreshedCount: number
  failedCount: number
  /** The first twenty of those that did not. */
  offline: OfflineRepository[]
}

export interface OfflineRepository {
  repositoryId: string
  /** An error code of ours, and what it says. */
  code: string
  message: string
}

/** What became of a repository that is no longer registered. */
export interface RemovedRepository {
  /** Whether its folder can be registered again: nothing of the repository is left in it. */
  cleared: boolean
}

/** A connection to a platform, to be probed and recorded. Credentials are referred to: this travels through histories. */
export interface SourceRequest {
  sourceId: string
  name: string
  sourceType: SourceType
  hostId: string
  config: JsonObject
  credentialsId: string | null
  maxConcurrentBackups: number
}

/** A source of the catalog, and the host that reaches it. */
export interface SourceOfHost {
  sourceId: string
  hostId: string
}

/** What a look through a platform's VMs came to. */
export interface Discovery {
  found: number
  added: number
  updated: number
  vanished: number
  /** VMs that could not be described, the first hundred. */
  problems: DiscoveryProblem[]
  problemCount: number
}

export interface DiscoveryProblem {
  vmName: string
  externalId: string
  error: string
}

/** A disk of a backup, to be opened for reading its files. */
export interface OpenMountRequest {
  /** {@link restoreMountId} of the two. */
  mountId: string
  backupId: string
  diskIndex: number
  /** How long it lasts after the last access, and at most. */
  idleMs: number
  maximumMs: number
}

export interface Operations {
  /** Starts `backupVm`. `VM_BUSY` (with `workflow_type` and, if known, `backup_id`) while the chain has a writer. Admission failures (`INSUFFICIENT_STORAGE` …) are thrown. */
  startBackup(request: StartBackupRequest): Promise<BackupAdmission>
  /** Asks a running backup to stop and clean up. `BACKUP_NOT_RUNNING` when it has ended. Returns at once. */
  cancelBackup(vmContextId: string, backupId: string): Promise<void>
  /** Starts `verifyBackup`, or joins the one running. Returns at once with its workflow id; the result lands in the catalog. */
  verifyBackup(backupId: string, repositoryId: string): Promise<{ workflowId: string }>
  /** Runs `deleteBackup` and waits. `BACKUP_HAS_DEPENDENTS`, `BACKUP_PINNED`, `VM_BUSY`. */
  deleteBackup(vmContextId: string, backupId: string): Promise<void>
  /** Checks the target, then starts `restoreDisk`. `RESTORE_TARGET_INVALID`, `RESTORE_TARGET_EXISTS`. */
  restoreDisk(request: RestoreDiskRequest): Promise<void>
  /** Checks the target, then starts `restoreVm`. `RESTORE_TARGET_*`, `VM_EXISTS`, `VM_RUNNING`, `SOURCE_*`; `VM_BUSY` over an original that is being backed up. */
  restoreVm(request: RestoreVmRequest): Promise<void>
  cancelRestore(restoreId: string): Promise<void>
  /**
   * Starts `mountBackup`, or joins the one that runs, and waits until the disk is mounted; its row is in the catalog then. `BACKUP_*`, `DISK_NOT_FOUND`,
   * `FILE_SYSTEM_UNREADABLE`, `MOUNT_LIMIT_REACHED`, `MOUNT_DRIVER_UNAVAILABLE`, `CORRUPT_CHAIN`, `REPO_UNAVAILABLE`; `MOUNT_NOT_READY` (retryable) when it takes
   * longer than a caller waits: it goes on by itself.
   */
  openMount(request: OpenMountRequest): Promise<void>
  /** Begins the idle time anew. Returns when the mount ends now (RFC 3339). `MOUNT_NOT_FOUND`, also while it is being unmounted. */
  extendMount(mountId: string): Promise<{ expiresAt: string }>
  /** Unmounts and waits until nothing of it is left. `MOUNT_NOT_FOUND`. */
  releaseMount(mountId: string): Promise<void>
  /** Looks at the VM's disks through its mover, then records the VM context. Waits. `SOURCE_*`, `VM_EXISTS`. */
  registerVm(request: RegisterVmRequest): Promise<VmDescription>
  /**
   * Prepares and tests the place, then records the repository. Whatever was done for one that was refused is undone, its credentials forgotten. Joins a
   * registration under the same id. Waits. `REPO_*`, `CONNECTION_FAILED`, `IMMUTABILITY_UNSUPPORTED`.
   */
  registerRepository(request: RegisterRepositoryRequest): Promise<RepositoryFindings>
  /**
   * Looks at a place, registered or not, and changes nothing that stays; credentials that no repository uses are forgotten. Waits. `REPO_*`,
   * `CONNECTION_FAILED`.
   */
  testRepository(request: TestRepositoryRequest): Promise<RepositoryFindings>
  /**
   * Changes a repository. A new place is tested first, and must hold the same repository. Waits. `REPO_*`, `CONNECTION_FAILED`, `IMMUTABILITY_UNSUPPORTED`;
   * `REPO_BUSY` while another change of it runs.
   */
  changeRepository(request: ChangeRepositoryRequest): Promise<void>
  /**
   * Forgets a repository without backups, and clears its folder. `force`: also when its place does not answer. Waits. `REPO_IN_USE` (with
   * `backup_count`), `REPO_BUSY`, `REPO_UNAVAILABLE`, `CONNECTION_FAILED`.
   */
  deleteRepository(repository: RepositoryOfHost, options: { force: boolean }): Promise<RemovedRepository>
  /** Looks at every repository, and notes what was found. Joins one that was asked for and runs. Waits. That one does not answer is a result. */
  refreshStorage(): Promise<StorageRefresh>
  /** The same of one; nothing is looked at when it is not registered. */
  lookAtRepository(repository: RepositoryOfHost): Promise<StorageRefresh>
  /** Waits. `REPO_*`, `CONNECTION_FAILED`. */
  mountRepository(repository: RepositoryOfHost): Promise<MountState>
  /** `force`: whoever uses it. Waits. `REPO_IN_USE`, `REPO_BUSY`. */
  unmountRepository(repository: RepositoryOfHost, options: { force: boolean }): Promise<MountState>
  /** Looks whether the locks of a repository hold; locks again what should be and is not. Joins a look that runs. Waits. `REPO_*`, `LOCK_FAILED`. */
  attestLocks(repository: RepositoryOfHost): Promise<Attestation>
  /** Reaches the platform, then records the source. Credentials of a source that was refused are forgotten. Waits. `SOURCE_*` */
  registerSource(request: SourceRequest): Promise<PlatformInfo>
  /** Reaches the platform with the new settings, then puts them in place of the old ones. Waits. `SOURCE_*`; `SOURCE_BUSY` while another change runs. */
  changeSource(request: SourceRequest): Promise<PlatformInfo>
  /** Reaches the platform and notes what it said, or why not. Joins a test that runs. Waits. `SOURCE_*` */
  testSource(source: SourceOfHost): Promise<PlatformInfo>
  /** Brings the VM contexts of the source to what its platform has. Joins a discovery that runs. Waits. `SOURCE_*` */
  discoverVms(source: SourceOfHost): Promise<Discovery>
  /** Whether Temporal answers, for `/health`. Never throws. */
  healthy(): Promise<boolean>
}
