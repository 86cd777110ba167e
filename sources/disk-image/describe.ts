/** What the disks of a VM are, without freezing them. */
import { inspectImage } from '../../disks/inspect.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { SourceDisk } from '../source.ts'
import type { FileDisk, ImageDisk } from './config.ts'
import { invalidImage } from './image-errors.ts'
import { imageFiles } from './image-files.ts'
import { describeNbdDisk } from './nbd-disk.ts'

/** Sizes of all disks, in the configuration's order. Errors are those of {@link SourceDisk}'s contract. */
export async function describeDisks(
  disks: readonly ImageDisk[],
  options: { signal?: AbortSignal | undefined },
): Promise<SourceDisk[]> {
  const described: SourceDisk[] = []
  for (const [index, disk] of disks.entries()) {
    const { sizeBytes, dataBytes } =
      disk.type === 'nbd' ? await describeNbdDisk(disk, options) : await describeFile(disk, options)
    const { key, label, format } = disk
    described.push({ index, key, label, format, sizeBytes, dataBytes: Math.min(dataBytes, sizeBytes) })
  }
  return described
}

async function describeFile(
  disk: FileDisk,
  options: { signal?: AbortSignal | undefined },
): Promise<{ sizeBytes: number; dataBytes: number }> {
  // Before QEMU opens it: the headers must not lead anywhere that we did not look at.
  const files = await imageFiles(disk.path, disk.format)
  try {
    return await inspectImage(files[0] ?? disk.path, disk.format, options)
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'TOOL_FAILED') throw invalidImage(disk.path, error.message, error)
    throw error
  }
}
