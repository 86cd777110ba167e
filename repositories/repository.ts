/**
 * The contract of a repository: a place where backups are kept, in the layout of docs/on-disk-format.md.
 *
 * A backup is first staged (`<backup id>.partial/`), then published by one rename. What is staged is invisible to `get`
 * and `list`; what is published is never changed again. Every implementation passes `conformance.ts`.
 *
 * Errors are `HoldfastError`s: `REPO_UNAVAILABLE` (share gone, I/O error; retryable), `REPO_INVALID` (not a repository, not
 * writable, another repository's id; lasting), `BACKUP_NOT_FOUND`, `BACKUP_CORRUPT` (manifest damaged or not valid),
 * `CORRUPT_CHAIN` (a parent is missing), `BACKUP_HAS_DEPENDENTS`, `INSUFFICIENT_STORAGE` (with both numbers).
 */
import type { RepositoryType } from '../domain/backup.ts'
import type { Manifest } from '../domain/manifest.ts'
import type { StorageInfo } from '../domain/storage.ts'

/** Names one backup inside a repository; both parts are checked before they become a path. */
export interface BackupReference {
  /** `vmFolderName()` of the VM. */
  vmFolder: string
  backupId: string
}

/** A backup being written. */
export interface StagedBackup extends BackupReference {
  /** Absolute path of the `.partial` folder. */
  folder: string
}

export interface PublishedBackup extends BackupReference {
  /** Absolute path of the published folder. */
  folder: string
  manifest: Manifest
}

export interface BackupListing {
  backups: PublishedBackup[]
  /** Published folders whose manifest is missing or damaged, with the reason: reported, never silently skipped or deleted. */
  damaged: (BackupReference & { folder: string; reason: string })[]
  /** Folders still being written, or left by a crash. */
  staged: StagedBackup[]
}

export interface Repository {
  readonly id: string
  readonly type: RepositoryType
  /** Absolute path under which the layout lives on this host. */
  readonly root: string

  /**
   * Makes the place a repository (writes `holdfast-repository.json`), or checks that it already is this one.
   * `REPO_INVALID` when it belongs to another id or holds foreign files. Idempotent.
   */
  initialize(): Promise<void>

  /** The id of the repository that lies there; `null` when none does. `REPO_INVALID` for a damaged marker, or a format that is not ours. */
  readIdentity(): Promise<string | null>

  /** `REPO_INVALID` where a place that is no repository yet could not become one, because somebody's files are in it. Changes nothing. */
  checkFree(): Promise<void>

  /**
   * Takes back what {@link initialize} made, and returns whether nothing of it is left. While anything is in it, or it is another repository, all
   * stays as it is. Idempotent.
   */
  clear(): Promise<boolean>

  /** Space, and whether a test file could be written, synced, read back and removed. Never hangs longer than 10 s: `REPO_UNAVAILABLE`. */
  storage(): Promise<StorageInfo>

  /** Makes the staging folder, or returns the one that is there (a resumed backup). */
  createBackup(reference: BackupReference): Promise<StagedBackup>

  /**
   * Writes the manifest, fsyncs every file and the folder, and renames once. Idempotent: published already with the same
   * manifest returns it. The parent named by the manifest must be published: `CORRUPT_CHAIN`. On failure the staging folder stays.
   */
  publishBackup(reference: BackupReference, manifest: Manifest): Promise<PublishedBackup>

  /** Removes the staging folder. Idempotent; never touches a published backup. */
  discardBackup(reference: BackupReference): Promise<void>

  /** The published backup with its checked manifest. `BACKUP_NOT_FOUND`, `BACKUP_CORRUPT`. */
  getBackup(reference: BackupReference): Promise<PublishedBackup>

  /** Everything of one VM, or of all VMs. A failing read is an error, never an empty list. */
  listBackups(vmFolder?: string): Promise<BackupListing>

  /**
   * Deletes a published backup: renamed to `<backup id>.deleting` first, so that a crash leaves nothing that looks whole.
   * Idempotent. `BACKUP_HAS_DEPENDENTS` (with their ids) when a published sibling names it as parent. While anything of it is locked nothing
   * is touched: `IMMUTABLE_RETENTION_ACTIVE` with `retention_expires_at`, or `REPO_INVALID` with the reason `immutable` when no date holds it.
   * Works on a full disk: what is set aside is given back when there is no room to delete.
   */
  deleteBackup(reference: BackupReference): Promise<void>

  /** Sets space aside for deletions on a full disk, where there is room for that. Nothing happens where there is none. Idempotent. */
  keepReserve(): Promise<void>

  /** Gives that space back. Idempotent. */
  releaseReserve(): Promise<void>
}
