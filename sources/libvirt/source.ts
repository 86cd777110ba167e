/** The source `libvirt`: domains of one libvirt connection, frozen with checkpoints and served by QEMU itself. */
import type { Tracking } from '../../domain/chain.ts'
import { HoldfastError, type JsonObject } from '../../domain/errors.ts'
import type { SourceConnection } from '../registry.ts'
import type { OpenDisk, Platform, Snapshot, SnapshotEnd, SnapshotRequest, Source, VmDescription } from '../source.ts'
import { LibvirtConnection } from './connection.ts'
import { createHost } from './create-host.ts'
import { describeDomainVm } from './describe.ts'
import { loadDomain, type DomainContext, type DomainPlace } from './domain-context.ts'
import { beginLive, ended, endLive, isLive, openLive } from './live-snapshot.ts'
import { trackingLive } from './live-tracking.ts'
import { beginOffline, endOffline, openOffline } from './offline-snapshot.ts'
import { trackingOffline } from './offline-tracking.ts'
import { createPlatform } from './platform.ts'
import { removeScratchFiles } from './scratch.ts'

interface Options {
  signal?: AbortSignal
}

export class LibvirtSource implements Source {
  readonly type = 'libvirt'
  private readonly runFolder: string
  private readonly sourceConnection: SourceConnection
  private place: DomainPlace | null = null

  /** Touches nothing. Sockets and key files of this process go below `runFolder`. */
  constructor(runFolder: string, connection: SourceConnection) {
    this.runFolder = runFolder
    this.sourceConnection = connection
  }

  async describeVm(config: JsonObject, options: Options): Promise<VmDescription> {
    return describeDomainVm(await this.load(config, options), options)
  }

  async trackingSince(
    config: JsonObject,
    changeIds: Record<string, string | null>,
    options: Options,
  ): Promise<Record<string, Tracking>> {
    const context = await this.load(config, options)
    return (isOff(context) ? trackingOffline : trackingLive)(context, changeIds, options)
  }

  async beginSnapshot(request: SnapshotRequest, options: Options): Promise<Snapshot> {
    const context = await this.load(request.config, options)
    if (context.included.length === 0) {
      const reasons = context.warnings.map(({ message }) => message).join(' ')
      throw new HoldfastError('SOURCE_INVALID', `The VM "${context.domain.name}" has no disk to back up. ${reasons}`.trim(), {
        details: { uuid: context.uuid },
      })
    }
    return (isOff(context) ? beginOffline : beginLive)(context, request, options)
  }

  async openDisk(
    config: JsonObject,
    snapshot: Snapshot,
    diskIndex: number,
    options: Options & { runFolder: string },
  ): Promise<OpenDisk> {
    const context = await this.load(config, options).catch((error: unknown) => {
      if (isGone(error)) throw ended(snapshot.id, 'the VM is gone', error)
      throw error
    })
    return (isLive(snapshot) ? openLive : openOffline)(context, snapshot, diskIndex, options)
  }

  async endSnapshot(config: JsonObject, backupId: string, end: SnapshotEnd, options: Options): Promise<void> {
    let context: DomainContext
    try {
      context = await this.load(config, options)
    } catch (error) {
      // With the VM its job and its checkpoints went; files can be left.
      if (isGone(error)) return removeScratchFiles(this.at(), backupId)
      throw error
    }
    // A domain can have stopped or started since the snapshot began; what counts is where its bitmaps are now.
    await (isOff(context) ? endOffline : endLive)(context, backupId, end, options)
  }

  get platform(): Platform {
    return createPlatform(this.at(), this.runFolder)
  }

  private load(config: JsonObject, options: Options): Promise<DomainContext> {
    return loadDomain(this.at(), config, options)
  }

  /** Made when it is first needed: a connection that is not valid must not keep a source from being made. */
  private at(): DomainPlace {
    if (this.place) return this.place
    const connection = new LibvirtConnection(this.sourceConnection, this.runFolder)
    return (this.place = { connection, host: createHost(connection, this.runFolder) })
  }
}

function isOff({ state }: DomainContext): boolean {
  return state.power === 'off'
}

function isGone(error: unknown): boolean {
  return error instanceof HoldfastError && error.code === 'SOURCE_NOT_FOUND'
}
