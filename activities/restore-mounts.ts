/** Restore mounts: opening a disk of a backup for reading its files, keeping it open while its lease lasts, closing it. */
import { setTimeout as delay } from 'node:timers/promises'
import { cancellationSignal } from '@temporalio/activity'
import { loadBackupWork } from '../db/queries/backup-records.ts'
import { beginMounting, recordMounted } from '../db/queries/restore-mount-records.ts'
import { findRestoreMount } from '../db/queries/restore-mounts.ts'
import type { RestoreMountRow } from '../db/queries/restore-mounts.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { OpenMounts } from '../mounts/open-mounts.ts'
import type { RestoreMount } from '../mounts/restore-mount.ts'
import { locateBackup } from './backup-location.ts'
import { diskOf, linksOfDisk, loadChain } from './chain-links.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'

export interface RestoreMountActivities {
  /**
   * Opens the disk that the mount's row names and records what is open. What `OpenRestoreMount` throws, `MOUNT_LIMIT_REACHED`, `BACKUP_*`, `CORRUPT_CHAIN`,
   * `MOUNT_NOT_FOUND` when it is to be unmounted already. Idempotent.
   */
  openMount(mountId: string): Promise<void>

  /** Waits until nothing of it is left in this mover. Tried again whatever happens: what is mounted must not be forgotten. Idempotent. */
  closeMount(mountId: string): Promise<void>
}

/** Has a queue of its own: it takes as long as the mount lasts, and must not keep short steps waiting. */
export interface MountHoldingActivities {
  /**
   * Keeps the mount open in this mover until its row says that it is being unmounted: adopts what is open, opens what is not. Throws `MOUNT_INTERRUPTED`
   * (retryable) when a program of it died: the next attempt opens it again. A lasting failure to do so ends the lease. Cancelled, it leaves the mount open.
   */
  holdMount(mountId: string): Promise<void>
}

const POLL_MS = 200

/** Steps of a data host. */
export function createRestoreMountActivities(dependencies: HostDependencies): RestoreMountActivities {
  return guarded({
    async openMount(mountId: string): Promise<void> {
      if (await openRecorded(dependencies, mountId)) return
      throw new HoldfastError('MOUNT_NOT_FOUND', `Mount ${mountId} is being unmounted, so it was not opened.`, {
        details: { mount_id: mountId },
      })
    },

    async closeMount(mountId: string): Promise<void> {
      await closeMount(dependencies.mounts, mountId)
    },
  })
}

export function createMountHoldingActivities(dependencies: HostDependencies): MountHoldingActivities {
  return guarded({
    async holdMount(mountId: string): Promise<void> {
      while (await heldOnce(dependencies, mountId));
    },
  })
}

/** For a mover that stops: mounts end with it, and are opened again by the next. */
export async function interruptMounts(dependencies: Pick<HostDependencies, 'catalog' | 'mounts'>): Promise<void> {
  const { mounts } = dependencies
  await Promise.all(mounts.ids().map((mountId) => noteInterruption(dependencies, mountId)))
  await mounts.closeAll()
}

/** Whatever fails is tried again. */
export async function closeMount(mounts: OpenMounts, mountId: string): Promise<void> {
  try {
    await mounts.close(mountId)
  } catch (cause) {
    const code = cause instanceof HoldfastError ? cause.code : 'INTERNAL'
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new HoldfastError(code, `Mount ${mountId} could not be unmounted: ${reason} It is tried again.`, {
      cause,
      retryable: true,
      details: { mount_id: mountId },
    })
  }
}

/** False when it is to be unmounted. True when it was closed although its lease goes on: by a repair that took it for abandoned. */
async function heldOnce(dependencies: HostDependencies, mountId: string): Promise<boolean> {
  const mount = await openRecorded(dependencies, mountId)
  if (!mount) return false
  const failure = await untilClosed(dependencies.mounts, mount)
  if (!failure) return true
  await noteInterruption(dependencies, mountId)
  throw new HoldfastError('MOUNT_INTERRUPTED', `${failure.message} The disk is mounted again.`, {
    cause: failure,
    details: { mount_id: mountId },
  })
}

/** Why it failed; nothing when somebody closed it. */
async function untilClosed(mounts: OpenMounts, mount: RestoreMount): Promise<HoldfastError | undefined> {
  let failure: HoldfastError | undefined
  // Asked once: every wait on a promise that may not settle for a month would stay with it. What failed is not among the open ones any more.
  void mount.failed.then((reason) => (failure = reason))
  const signal = cancellationSignal()
  while (mounts.find(mount.mountId) === mount) await delay(POLL_MS, undefined, { signal })
  return failure
}

/** The open mount, which its row tells of; nothing when it is to be unmounted: then it is not open here. */
async function openRecorded(dependencies: HostDependencies, mountId: string): Promise<RestoreMount | undefined> {
  const { catalog, mounts } = dependencies
  const row = await findRestoreMount(catalog, mountId)
  if (!row || row.status === 'unmounting') return undefined
  if (!mounts.find(mountId) && !(await beginMounting(catalog, mountId))) return undefined
  const mount = await mounts.open(mountId, () => openDisk(dependencies, row))
  const { driver, folder: mountPath, device, reader } = mount
  if (await recordMounted(catalog, mountId, { driver, mountPath, device, volumes: reader.volumes })) return mount
  await mounts.close(mountId)
  return undefined
}

async function openDisk(dependencies: HostDependencies, row: RestoreMountRow): Promise<RestoreMount> {
  const { repository, reference } = locateBackup(await loadBackupWork(dependencies.catalog, row.backup_id), dependencies)
  const chain = await loadChain(repository, reference)
  const links = linksOfDisk(chain, diskOf(chain.newest, row.disk_index))
  const { checkChain } = repository.disks
  return dependencies.openRestoreMount({ mountId: row.id, links, checkChain }, cancellationSignal())
}

/** Whoever looks until it has been opened again is told so. */
async function noteInterruption({ catalog }: Pick<HostDependencies, 'catalog'>, mountId: string): Promise<void> {
  // A catalog that is away must not keep the mover from stopping, or the next attempt waiting; that one puts the row right.
  await beginMounting(catalog, mountId).catch(() => undefined)
}
