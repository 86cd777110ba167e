/** The source `libvirt`: domains of one libvirt connection, frozen with checkpoints and served by QEMU itself. */
import type { Tracking } from '../../domain/chain.ts'
import type { JsonObject } from '../../domain/errors.ts'
import type { SourceConnection } from '../registry.ts'
import type { OpenDisk, Platform, Snapshot, SnapshotEnd, SnapshotRequest, Source, VmDescription } from '../source.ts'

export class LibvirtSource implements Source {
  readonly type = 'libvirt'

  constructor(
    readonly runFolder: string,
    private readonly connection: SourceConnection,
  ) {}
}
