/** Backups of a running guest, from the freeze to the restored disk, by the same steps as a backup's activities take. */
import { join } from 'node:path'
import type { ChainLink } from '../../disks/chain.ts'
import { restoreDiskTo } from '../../disks/restore.ts'
import { transferDisk } from '../../disks/transfer.ts'
import type { Snapshot, Source } from '../../sources/source.ts'
import { publish, transferRequest } from '../disk-backups.ts'
import type { Guest } from './guest.ts'

export interface LiveBackup {
  backupId: string
  snapshot: Snapshot
  links: ChainLink[]
  changeId: string | null
}

export interface LiveBackupRequest {
  backupId: string
  parent?: LiveBackup
  rateLimitBytesPerSecond?: number
  /** Called when the snapshot has begun, before anything is read. */
  onFrozen?: (snapshot: Snapshot) => Promise<void>
}

export class LiveBackups {
  readonly source: Source
  readonly guest: Guest
  readonly folder: string

  /** Backups go below `folder`. */
  constructor(source: Source, guest: Guest, folder: string) {
    this.source = source
    this.guest = guest
    this.folder = folder
  }

  get config(): { uuid: string } {
    return { uuid: this.guest.uuid }
  }

  async backUp(request: LiveBackupRequest): Promise<LiveBackup> {
    const { backupId, parent, rateLimitBytesPerSecond = null, onFrozen } = request
    const { config, folder } = this
    const parentChangeIds = parent?.changeId == null ? {} : { vda: parent.changeId }
    const snapshot = await this.source.beginSnapshot({ backupId, config, parentChangeIds }, {})
    await onFrozen?.(snapshot)
    const runFolder = join(folder, 'run')
    const disk = await this.source.openDisk(config, snapshot, 0, { runFolder })
    const change = { snapshotId: snapshot.id, rateLimitBytesPerSecond }
    const backup = { folder, backupId, source: disk, parent: parent?.links ?? [], change }
    const result = await transferDisk(await transferRequest(backup))
    await disk.close()
    const links = await publish(backup, result)
    const changeId = snapshot.disks[0]?.changeId ?? null
    const changeIdsInUse = changeId === null ? [] : [changeId]
    await this.source.endSnapshot(config, backupId, { outcome: 'published', changeIdsInUse }, {})
    return { backupId, snapshot, links, changeId }
  }

  /** Writes the guest's disk as it was in this backup; returns the path. */
  async restore(backup: LiveBackup, targetPath: string, targetFormat: 'raw' | 'qcow2'): Promise<string> {
    await restoreDiskTo({
      restoreId: `restore-${backup.backupId}`,
      links: backup.links,
      targetPath,
      targetFormat,
      runFolder: join(this.folder, 'run'),
      checkpointIntervalMs: 60_000,
      checkpointIntervalBytes: 64 * 1024 * 1024,
    })
    return targetPath
  }
}
