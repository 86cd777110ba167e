/** Serving one frozen disk, and noticing when it was not frozen after all. */
import { realpath } from 'node:fs/promises'
import { serveImage } from '../../disks/serve.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { OpenDisk, Snapshot } from '../source.ts'
import type { FileDisk, ImageDisk } from './config.ts'
import { fingerprint } from './fingerprint.ts'
import { onImage } from './image-errors.ts'

interface OpenOptions {
  runFolder: string
  signal?: AbortSignal | undefined
}

/** Serves disk `diskIndex`. `SOURCE_CHANGED` when any of the VM's images is not what the snapshot saw: all disks are of one instant. */
export async function openImageDisk(
  disks: readonly ImageDisk[],
  snapshot: Snapshot,
  diskIndex: number,
  options: OpenOptions,
): Promise<OpenDisk> {
  const disk = disks[diskIndex]
  const frozen = snapshot.disks.find((candidate) => candidate.index === diskIndex)
  if (!disk || !frozen) throw changed(snapshot, `it has no disk ${diskIndex}`)
  // Of the exports, only the one that is to be read is asked for its size: the others may be busy being read.
  await checkUnchanged(disks, snapshot, { signal: options.signal, asked: diskIndex })
  const server = disk.type === 'nbd' ? null : await serve(disk, options)
  let closing: Promise<void> | undefined
  return {
    endpoint: server?.endpoint ?? endpointOf(disk),
    sizeBytes: frozen.sizeBytes,
    // Nothing records writes to an image that lies still: what changed shows in its blocks.
    changes: { type: 'compare-hashes' },
    close: () => (closing ??= closeAndCheck(() => server?.close(), disks, snapshot)),
  }
}

async function closeAndCheck(
  stop: () => Promise<void> | undefined,
  disks: readonly ImageDisk[],
  snapshot: Snapshot,
): Promise<void> {
  await stop()
  await checkUnchanged(disks, snapshot, {})
}

async function serve(disk: FileDisk, options: OpenOptions): ReturnType<typeof serveImage> {
  const path = await onImage(disk.path, () => realpath(disk.path))
  return serveImage(path, disk.format, options)
}

function endpointOf(disk: ImageDisk): OpenDisk['endpoint'] {
  if (disk.type === 'nbd') return disk.endpoint
  throw new HoldfastError('INTERNAL', `The image "${disk.path}" has no endpoint of its own.`)
}

async function checkUnchanged(
  disks: readonly ImageDisk[],
  snapshot: Snapshot,
  { signal, asked }: { signal?: AbortSignal | undefined; asked?: number },
): Promise<void> {
  const known = snapshot.disks.filter(({ index }) => index !== asked)
  const nbdSizesBytes = new Map(known.map(({ index, sizeBytes }) => [index, sizeBytes]))
  let found: string
  try {
    found = await fingerprint(disks, { signal, nbdSizesBytes })
  } catch (error) {
    if (!(error instanceof HoldfastError) || error.retryable) throw error
    // An image that is gone or no longer an image was one when it was frozen.
    throw changed(snapshot, error.message, error)
  }
  if (found !== snapshot.id) throw changed(snapshot, 'at least one of its files was written to or replaced')
}

function changed(snapshot: Snapshot, reason: string, cause?: unknown): HoldfastError {
  return new HoldfastError(
    'SOURCE_CHANGED',
    `The disk images are no longer what they were at ${snapshot.takenAt}: ${reason}. The backup must start again while nobody writes to them.`,
    { cause, details: { snapshot_id: snapshot.id, reason } },
  )
}
