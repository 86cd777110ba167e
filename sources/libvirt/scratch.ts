/** Room for what the guest overwrites while a backup runs, and the files that a backup keeps on the hypervisor's host. */
import { HoldfastError } from '../../domain/errors.ts'
import type { SourceDisk } from '../source.ts'
import type { DomainContext } from './domain-context.ts'
import { checkpointName, isFileOfBackup } from './names.ts'

/** Share of the disks' data that the guest is expected to overwrite, at most, while they are copied. */
const OVERWRITTEN_SHARE = 0.1
const FLOOR_SHARE = 0.05
const FLOOR_MAX_BYTES = 1024 ** 3

type ScratchPlace = Pick<DomainContext, 'connection' | 'host'>

/**
 * The free space under which a running backup is given up: enough for what the guest writes between two looks, so that QEMU never meets a full
 * file system. It would then fail the guest's writes, and a VM stops at that. (QEMU 7.2: the write gets ENOSPC, the backup stays whole.)
 */
export function scratchFloorBytes(disks: readonly Pick<SourceDisk, 'sizeBytes'>[]): number {
  const total = disks.reduce((sum, disk) => sum + disk.sizeBytes, 0)
  return Math.min(FLOOR_MAX_BYTES, Math.ceil(total * FLOOR_SHARE))
}

/** What must be free before a backup begins: a tenth of the disks' data, and the floor. */
export function scratchRequiredBytes(disks: readonly Pick<SourceDisk, 'sizeBytes' | 'dataBytes'>[]): number {
  const data = disks.reduce((sum, disk) => sum + disk.dataBytes, 0)
  return Math.ceil(data * OVERWRITTEN_SHARE) + scratchFloorBytes(disks)
}

/** `INSUFFICIENT_STORAGE` with both amounts; `SOURCE_INVALID` when there is no such folder. */
export async function requireScratchSpace({ connection, host }: ScratchPlace, disks: readonly SourceDisk[]): Promise<void> {
  const folder = connection.scratchFolder
  const availableBytes = await host.freeBytes(folder)
  const requiredBytes = scratchRequiredBytes(disks)
  if (availableBytes >= requiredBytes) return
  throw new HoldfastError(
    'INSUFFICIENT_STORAGE',
    `The scratch folder "${folder}" of the hypervisor has ${availableBytes} bytes free; this backup needs ${requiredBytes} for what the VM overwrites meanwhile. Make room, or give the source connection another "scratch_folder".`,
    { details: { folder, required_bytes: requiredBytes, available_bytes: availableBytes } },
  )
}

/** Removes this backup's scratch files and socket. Only when its job is gone. Idempotent. */
export async function removeScratchFiles({ connection, host }: ScratchPlace, backupId: string): Promise<void> {
  const folder = connection.scratchFolder
  for (const name of await host.listFiles(folder, checkpointName(backupId))) {
    if (isFileOfBackup(name, backupId)) await host.removeFile(`${folder}/${name}`)
  }
}
