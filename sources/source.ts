/**
 * The contract of a source: a platform that VMs come from, or one connection to such a platform.
 *
 * A source finds out what a VM looks like, freezes all its disks at one instant (a snapshot), and serves each frozen
 * disk as an NBD export on this host. It never writes to what the VM's disks hold. Every implementation passes `conformance.ts`.
 *
 * Errors are `HoldfastError`s: `SOURCE_INVALID` (configuration; lasting), `SOURCE_NOT_FOUND` (VM or image gone; lasting),
 * `SOURCE_CHANGED` (the frozen content is no longer what it was, or the VM is in another state: lasting for this snapshot, the
 * backup must start again), `SOURCE_AUTHENTICATION_FAILED` (lasting), `SOURCE_BUSY` and `SOURCE_UNAVAILABLE` (retryable),
 * `INSUFFICIENT_STORAGE` (no room for what the platform must keep while the snapshot exists; lasting).
 */
import type { BackupWarning, Consistency, SourceType } from '../domain/backup.ts'
import type { Tracking } from '../domain/chain.ts'
import type { JsonObject } from '../domain/errors.ts'

/** Where an NBD server listens. Unix sockets by default; TCP only for servers that the administrator named. */
export type NbdEndpoint =
  | { type: 'unix'; path: string; exportName: string }
  | { type: 'tcp'; host: string; port: number; exportName: string }

/** What a source knows of a VM without freezing it. */
export interface VmDescription {
  powerState: 'on' | 'off' | 'unknown'
  /** Virtual processors, memory in MiB and the guest's operating system, where the source knows them. */
  cpuCount: number | null
  memoryMb: number | null
  osType: string | null
  disks: SourceDisk[]
  /** Disks that are left out, and why. */
  warnings: BackupWarning[]
}

export interface SourceDisk {
  index: number
  /** Stable identity within the VM (path, URI, target). A disk keeps its chain as long as its key stays. */
  key: string
  label: string
  format: string
  /** Where it lies on the platform, for people; absent where the key or the VM's configuration says so. */
  path?: string
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
  /** What was learnt only while freezing; the description's warnings are not repeated. */
  warnings: BackupWarning[]
}

export interface SnapshotDisk extends SourceDisk {
  /** Becomes the change ID of the backup once it is published: "changed since here" for the next one. */
  changeId: string | null
  /** The parent's change ID that this disk's export tells changes since; `null`: it cannot tell, and all is read. */
  trackedSince: string | null
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
  /** Stops serving. Idempotent. Throws `SOURCE_CHANGED` when the content changed, or ended, while it was being read. */
  close(): Promise<void>
}

export interface Source {
  readonly type: SourceType

  /** Reads the VM's disks. Changes nothing. Safe to retry. */
  describeVm(config: JsonObject, options: { signal?: AbortSignal }): Promise<VmDescription>

  /**
   * Whether a later incremental can build on these change IDs (by disk key; `null` for a parent that had none). Answers for every key
   * asked for that the VM still has. Changes nothing. Safe to retry.
   */
  trackingSince(
    config: JsonObject,
    changeIds: Record<string, string | null>,
    options: { signal?: AbortSignal },
  ): Promise<Record<string, Tracking>>

  /**
   * Freezes all disks at one instant. Idempotent by `backupId`: asked again after a crash it returns the same snapshot
   * if that still exists, else takes a new one under a new id. On failure nothing is left behind. `SOURCE_CHANGED` when a change ID
   * that {@link trackingSince} called tracked is no longer.
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
  endSnapshot(config: JsonObject, backupId: string, end: SnapshotEnd, options: { signal?: AbortSignal }): Promise<void>

  /** Sources that are connections to a platform with VMs of its own have this; the others are told of each VM. */
  readonly platform?: Platform
}

export interface SnapshotRequest {
  backupId: string
  config: JsonObject
  /** Change IDs of the parent backup by disk key, of the disks that continue its chain; of one that is `untracked` no use is made. Empty for a full. */
  parentChangeIds: Record<string, string>
}

export interface SnapshotEnd {
  outcome: 'published' | 'abandoned'
  /** Change IDs of this VM that the next incremental of some repository may start from; the source may forget all other ones that this connection made. */
  changeIdsInUse: readonly string[]
}

/** A platform that knows its own VMs: a hypervisor, a cluster. */
export interface Platform {
  /** Reaches the platform and finds out whether backups will work. Changes nothing. `SOURCE_UNAVAILABLE`, `SOURCE_AUTHENTICATION_FAILED`, `SOURCE_INVALID`. */
  probe(options: { signal?: AbortSignal }): Promise<PlatformInfo>

  /** All VMs. A VM that cannot be described is named with its error, and does not keep the others from being found. */
  discoverVms(options: { signal?: AbortSignal }): Promise<DiscoveredVm[]>

  /**
   * Removes what backups that have ended left on the platform (jobs, checkpoints, scratch files), recognised by their names, and returns
   * a line for people about each. What belongs to a backup that this catalog never heard of is somebody else's and stays.
   */
  removeOrphans(owners: OrphanOwners, options: { signal?: AbortSignal }): Promise<string[]>

  /** Making VMs out of restored disks. */
  readonly restorer: VmRestorer
}

export interface PlatformInfo {
  /** Of the hypervisor and its control software, for people: `QEMU 7.2.0, libvirt 9.0.0`. */
  version: string
  hostname: string
  /** What will not work, and what to do about it. */
  warnings: string[]
}

export interface DiscoveredVm {
  /** The platform's own lasting id (libvirt: UUID). */
  externalId: string
  name: string
  /** What {@link Source.describeVm} needs. */
  config: JsonObject
  description: VmDescription | { error: string }
}

export interface OrphanOwners {
  /** `running`: leave it alone; `ended`: what it left is an orphan; `unknown`: not ours. */
  stateOf(backupId: string): 'running' | 'ended' | 'unknown'
  /** Change IDs that must stay although their backup has ended. */
  changeIdsInUse: ReadonlySet<string>
}

/** A VM to be made of a backup's restored disks. */
export interface VmRestoreTarget {
  /** `new`: another VM beside the original; `in-place`: the original's disks are replaced. */
  mode: 'new' | 'in-place'
  /** Name of the new VM; of the VM to overwrite, for messages. */
  vmName: string
  /** `in-place`: the config of the VM to overwrite. */
  config: JsonObject | null
  /** `new`: folder on the hypervisor's host where the disks go. */
  diskFolder: string | null
  /** Whether the new VM's network cards are connected. Default of the API: `false`, so that two VMs of one address never meet. */
  connectNetwork: boolean
}

export interface VmRestore {
  restoreId: string
  target: VmRestoreTarget
  /** {@link Snapshot.vmConfig} of the backup. */
  vmConfig: JsonObject
}

export interface VmRestoreDisk {
  index: number
  key: string
  sizeBytes: number
}

/** A disk with its place. */
export interface PlannedDisk extends VmRestoreDisk {
  /** Where it is to be written. The name holds the restore's id: whatever lies there is this restore's. */
  writePath: string
  /** The name that {@link VmRestorer.complete} gives it. */
  path: string
  format: 'raw' | 'qcow2'
}

export interface RestoredVm {
  /** The platform's own lasting id. */
  externalId: string
  /** For people: what the VM has not got, or has in another form. */
  warnings: string[]
}

/** The platform's side of a VM restore. The disks are written, to the places that {@link plan} gives, by others. */
export interface VmRestorer {
  /**
   * Where each disk is to be written. Leaves nothing behind. `VM_EXISTS` (name taken), `VM_RUNNING` (in place, and the VM is not shut
   * off), `SOURCE_NOT_FOUND`, `RESTORE_TARGET_INVALID`, `RESTORE_TARGET_EXISTS`.
   */
  plan(restore: VmRestore & { disks: VmRestoreDisk[] }, options: { signal?: AbortSignal }): Promise<PlannedDisk[]>
  /**
   * Makes the VM of disks that are all written; in place: forgets the platform's change tracking, then puts them in the originals' stead.
   * Idempotent by `restoreId`: repeated after a crash it finishes. `VM_EXISTS`, `RESTORE_TARGET_EXISTS`, and `VM_RUNNING` only while nothing
   * has been replaced; a VM that was started when only some disks were is `SOURCE_BUSY` (retryable) until it is shut off.
   */
  complete(restore: VmRestore & { disks: PlannedDisk[] }, options: { signal?: AbortSignal }): Promise<RestoredVm>
  /**
   * Takes back what a restore that failed left: the VM, and the disks by the names of {@link plan}. Idempotent. What cannot or must not be
   * taken back stays: `begun`, some originals are replaced, so that only {@link complete} helps; `complete`, the VM is whole.
   */
  discard(
    restore: VmRestore & { disks: PlannedDisk[] },
    options: { signal?: AbortSignal },
  ): Promise<'discarded' | 'begun' | 'complete'>
  /** Starts a VM that was restored. Nothing happens when it runs. */
  start(externalId: string, options: { signal?: AbortSignal }): Promise<void>
}
