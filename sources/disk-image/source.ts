/**
 * The source `disk-image`: VMs whose disks are files on this host, or exports that somebody serves over NBD.
 * Nothing freezes them for us. A snapshot is a promise of the administrator that nobody writes, and a fingerprint that tells when somebody did.
 */
import type { Tracking } from '../../domain/chain.ts'
import type { JsonObject } from '../../domain/errors.ts'
import type { OpenDisk, Snapshot, SnapshotRequest, Source, VmDescription } from '../source.ts'
import { completeConfig, imageDisks } from './config.ts'
import type { ImageDisk } from './config.ts'
import { describeDisks } from './describe.ts'
import { beingWritten, fingerprint, settledFingerprint } from './fingerprint.ts'
import { openImageDisk } from './open-disk.ts'

export interface DiskImageOptions {
  /** Hosts besides this one whose NBD exports may be read; named by the administrator, because the bytes travel unencrypted. */
  tcpHosts?: readonly string[]
}

export class DiskImageSource implements Source {
  readonly type = 'disk-image'
  readonly #tcpHosts: readonly string[]

  constructor(options: DiskImageOptions = {}) {
    this.#tcpHosts = options.tcpHosts ?? []
  }

  async describeVm(config: JsonObject, options: { signal?: AbortSignal }): Promise<VmDescription> {
    const disks = this.#disks(config)
    const described = await describeDisks(disks, options)
    return { powerState: 'unknown', cpuCount: null, memoryMb: null, osType: null, disks: described, warnings: [] }
  }

  /** Nothing records writes to an image that lies still. */
  async trackingSince(_config: JsonObject, changeIds: Record<string, string | null>): Promise<Record<string, Tracking>> {
    const detail = 'nothing records changes of disk images'
    return Object.fromEntries(Object.keys(changeIds).map((key) => [key, { state: 'untracked', detail }]))
  }

  async beginSnapshot(request: SnapshotRequest, options: { signal?: AbortSignal }): Promise<Snapshot> {
    const disks = this.#disks(request.config)
    // The same before and after: what was described in between is what the name stands for.
    const id = await settledFingerprint(disks, options)
    const takenAt = new Date().toISOString()
    const described = await describeDisks(disks, options)
    if ((await fingerprint(disks, options)) !== id) throw beingWritten(disks)
    return {
      id,
      takenAt,
      consistency: 'crash',
      consistencyReason: reasonFor(disks),
      disks: described.map((disk) => ({ ...disk, changeId: null, trackedSince: null })),
      vmConfig: completeConfig(disks),
      warnings: [],
    }
  }

  async openDisk(
    config: JsonObject,
    snapshot: Snapshot,
    diskIndex: number,
    options: { runFolder: string; signal?: AbortSignal },
  ): Promise<OpenDisk> {
    return openImageDisk(this.#disks(config), snapshot, diskIndex, options)
  }

  /** There is nothing to end: the snapshot left no trace. */
  async endSnapshot(): Promise<void> {}

  #disks(config: JsonObject): ImageDisk[] {
    return imageDisks(config, this.#tcpHosts)
  }
}

function reasonFor(disks: readonly ImageDisk[]): string {
  const served = disks.some((disk) => disk.type === 'nbd')
  const files = 'The image files did not change while they were read; the guest is in the state it was last stopped in.'
  const exports = 'Disks served over NBD cannot be watched: they are only as still as their server keeps them.'
  return served ? (disks.every((disk) => disk.type === 'nbd') ? exports : `${files} ${exports}`) : files
}
