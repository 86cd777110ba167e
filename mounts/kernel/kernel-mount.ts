/** A restore mount on a disk that the host's kernel reads: what its parts are, and how it ends. */
import { stat } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../../domain/errors.ts'
import type { DriverName } from '../../domain/restore-mount.ts'
import { unexpectedExit, type RunningTool } from '../../tools/run-tool.ts'
import { closeOnce } from '../close-once.ts'
import type { FileReader } from '../file-reader.ts'
import type { RestoreMount } from '../restore-mount.ts'
import { createFolderReader } from './folder-reader.ts'
import type { KernelDisk } from './kernel-disk.ts'
import { loopDevicesGone, loopDevicesOf, type LoopDevice } from './loop-devices.ts'
import { openVolumes } from './open-volumes.ts'

const STOP_GRACE_MS = 5_000
/** What is being read when the mount is closed may wait for storage that does not answer: then it ends with the disk. */
const READS_END_MS = 2_000

export interface KernelMountOptions {
  mountId: string
  driver: DriverName
}

/** Takes the disk over: it is closed with the mount, and when this fails. The errors of `openVolumes`. */
export async function mountDisk(disk: KernelDisk, options: KernelMountOptions, signal?: AbortSignal): Promise<RestoreMount> {
  const programs: RunningTool[] = []
  try {
    const volumes = await openVolumes(disk, programs, signal)
    const loops = await loopDevicesOf(disk.path)
    return new KernelMount({ ...options, disk, programs, loops }, (keeper) => createFolderReader(volumes, keeper))
  } catch (error) {
    const loops = await loopDevicesOf(disk.path)
    await endAll(disk, programs, loops)
    throw error
  }
}

interface Parts extends KernelMountOptions {
  disk: KernelDisk
  programs: readonly RunningTool[]
  loops: readonly LoopDevice[]
}

class KernelMount implements RestoreMount {
  readonly mountId: string
  readonly driver: DriverName
  readonly reader: FileReader
  readonly device: string
  readonly folder: string
  readonly failed: Promise<HoldfastError>
  readonly #end: () => Promise<void>
  #isClosed = false

  constructor(parts: Parts, read: (keeper: Parameters<typeof createFolderReader>[1]) => FileReader) {
    const { mountId, driver, disk, programs } = parts
    this.mountId = mountId
    this.driver = driver
    this.device = disk.device
    this.folder = disk.hostPath('')
    this.#end = closeOnce(() => this.#endParts(parts))
    const gone = Promise.race([disk.failed, ...programs.map(programGone)])
    const failed = gone.then((reason) => (this.#isClosed ? new Promise<never>(() => undefined) : reason))
    this.reader = read({ failed, isGone: () => isGone(disk.hostPath('')) })
    this.failed = failed.then(async (reason) => {
      // The reason is what matters; what could not be ended now, a later close tells.
      await this.close().catch(() => undefined)
      return reason
    })
  }

  close(): Promise<void> {
    this.#isClosed = true
    return this.#end()
  }

  async #endParts({ disk, programs, loops }: Parts): Promise<void> {
    const readsEnded = this.reader.close()
    await Promise.race([readsEnded, delay(READS_END_MS, undefined, { ref: false })])
    await endAll(disk, programs, loops, readsEnded)
  }
}

async function endAll(
  disk: KernelDisk,
  programs: readonly RunningTool[],
  loops: readonly LoopDevice[],
  readsEnded?: Promise<void>,
): Promise<void> {
  await Promise.all(programs.map((program) => program.stop(STOP_GRACE_MS)))
  await disk.close()
  await readsEnded
  await loopDevicesGone(loops)
}

async function programGone(program: RunningTool): Promise<HoldfastError> {
  await program.exited
  return new HoldfastError('MOUNT_INTERRUPTED', 'What reads a file system of the mount has ended. The mount is opened again.', {
    cause: await unexpectedExit(program),
  })
}

/** Whatever is below `/proc/<pid>` is gone with that process. */
async function isGone(folder: string): Promise<boolean> {
  return stat(folder).then(
    () => false,
    () => true,
  )
}
