/**
 * The contract of a source: a platform that VMs come from.
 *
 * A source finds out what a VM looks like, freezes all its disks at one instant (a snapshot), and serves each frozen
 * disk as an NBD export on this host. It never writes to the VM's disks. Every implementation passes `conformance.ts`.
 *
 * Errors are `HoldfastError`s: `SOURCE_INVALID` (configuration; lasting), `SOURCE_NOT_FOUND` (VM or image gone; lasting),
 * `SOURCE_CHANGED` (the frozen content is no longer what it was; lasting: the backup must start again),
 * `SOURCE_BUSY` and `SOURCE_UNAVAILABLE` (retryable).
 */
import type { Consistency, SourceType } from '../domain/backup.ts'
import type { JsonObject } from '../domain/errors.ts'

/** Where an NBD server listens. Unix sockets by default; TCP only for servers that the administrator named. */
export type NbdEndpoint =
  | { type: 'unix'; path: string; exportName: string }
  | { type: 'tcp'; host: string; port: number; exportName: string }

/** What a source knows of a VM without freezing it. */
export interface VmDescription {
  powerState: 'on' | 'off' | 'unknown'
  disks: SourceDisk[]
}

export interface SourceDisk {
  index: number
  /** Stable identity within the VM (path, URI, target). A disk keeps its chain as long as its key stays. */
  key: string
  label: string
  format: string
  sizeBytes: number
  /** Bytes that hold data, for admission; at most `sizeBytes`. An upper bound where the source cannot tell. */
  dataBytes: number
}

/** A VM's disks, frozen at one instant. Plain data: it travels through workflow histories, so no secrets and no extent lists. */
export interface Snapshot {
  /** Names the frozen content: a resumed transfer goes on only while this stays equal. */
  id: string
  takenAt: string
  consistency: Consistency
  consistencyReason: string
  disks: SnapshotDisk[]
  /** What the source needs to define the VM again; ends in the manifest. */
  vmConfig: JsonObject
}

export interface SnapshotDisk extends SourceDisk {
  /** Becomes the change ID of the backup once it is published: "changed since here" for the next one. */
  changeId: string | null
}

/** One frozen disk being served. */
export interface OpenDisk {
  endpoint: NbdEndpoint
  sizeBytes: number
  /**
   * How to learn what changed since the parent: a dirty-bitmap metadata context of the export, or `compare-hashes`:
   * read every allocated byte and write only blocks whose hash differs from the parent's.
   */
  changes: { type: 'dirty-bitmap'; metaContext: string } | { type: 'compare-hashes' }
  /** Stops serving. Idempotent. Throws `SOURCE_CHANGED` when the content changed while it was being read. */
  close(): Promise<void>
}

export interface Source {
  readonly type: SourceType

  /** Reads the VM's disks. Changes nothing. Safe to retry. */
  describeVm(config: JsonObject, options: { signal?: AbortSignal }): Promise<VmDescription>

  /**
   * Freezes all disks at one instant. Idempotent by `backupId`: asked again after a crash it returns the same snapshot
   * if that still exists, else takes a new one under a new id. On failure nothing is left behind.
   */
  beginSnapshot(request: SnapshotRequest, options: { signal?: AbortSignal }): Promise<Snapshot>

  /**
   * Serves one disk of a snapshot read-only, under `runFolder`. The server dies with this process.
   * `SOURCE_CHANGED` when the snapshot no longer exists or its content differs.
   */
  openDisk(
    config: JsonObject,
    snapshot: Snapshot,
    diskIndex: number,
    options: { runFolder: string; signal?: AbortSignal },
  ): Promise<OpenDisk>

  /**
   * Ends the snapshot. `published` keeps what the next incremental needs (the change ID is now in use); `abandoned`
   * leaves the VM as it was before {@link beginSnapshot}. Idempotent, also for a snapshot that never began or is gone.
   */
  endSnapshot(
    config: JsonObject,
    backupId: string,
    outcome: 'published' | 'abandoned',
    options: { signal?: AbortSignal },
  ): Promise<void>
}

export interface SnapshotRequest {
  backupId: string
  config: JsonObject
  /** Change IDs of the parent backup by disk key; empty for a full. */
  parentChangeIds: Record<string, string>
}
