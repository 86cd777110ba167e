/**
 * What a VM's images are at one instant, as one name. Images that nobody freezes for us stay the same only as long as nobody
 * writes to them: the name is how we notice.
 */
import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../../domain/errors.ts'
import type { ImageDisk } from './config.ts'
import { onImage } from './image-errors.ts'
import { imageFiles } from './image-files.ts'
import { nbdSizeBytes } from './nbd-disk.ts'

/** File times advance in ticks of the kernel (at most 10 ms): a second write in the same tick leaves no trace. */
const TICK_MS = 20
/** Times without a fraction come from file systems that keep whole or even seconds. */
const COARSE_TICK_MS = 2_000
const NANOSECONDS_PER_MS = 1_000_000n
const NANOSECONDS_PER_SECOND = 1_000_000_000n

export interface FingerprintOptions {
  signal?: AbortSignal | undefined
  /**
   * Sizes of NBD exports that are taken as known, by the disk's index. A server that takes one client at a time cannot be asked about
   * one disk while another is being read.
   */
  nbdSizesBytes?: ReadonlyMap<number, number>
}

/** SHA-256 (hex) over the identity, size and times of every file of every disk, and the URI and size of every NBD export. */
export async function fingerprint(disks: readonly ImageDisk[], options: FingerprintOptions): Promise<string> {
  return (await look(disks, options)).name
}

/**
 * As {@link fingerprint}, after the images have been still for as long as it takes to notice the next write.
 * `SOURCE_BUSY` when they are being written to.
 */
export async function settledFingerprint(
  disks: readonly ImageDisk[],
  options: { signal?: AbortSignal | undefined },
): Promise<string> {
  const first = await look(disks, options)
  if (first.settlesInMs > 0) await delay(first.settlesInMs, undefined, { signal: options.signal })
  const second = await look(disks, options)
  if (second.name !== first.name) throw beingWritten(disks)
  return second.name
}

/** The answer when images change under our eyes before anything has been promised. */
export function beingWritten(disks: readonly ImageDisk[]): HoldfastError {
  const names = disks.map((disk) => disk.label).join(', ')
  return new HoldfastError(
    'SOURCE_BUSY',
    `The disk images (${names}) are being written to. Shut the VM down, or back it up through its hypervisor.`,
    { details: { disks: disks.map((disk) => disk.key) } },
  )
}

interface Look {
  name: string
  /** Milliseconds until a write after this look is sure to change a file's times. */
  settlesInMs: number
}

async function look(disks: readonly ImageDisk[], options: FingerprintOptions): Promise<Look> {
  const hash = createHash('sha256')
  let settlesInMs = 0
  for (const [index, disk] of disks.entries()) {
    options.signal?.throwIfAborted()
    hash.update(JSON.stringify([disk.key, disk.format]))
    if (disk.type === 'nbd') {
      hash.update(JSON.stringify([disk.uri, options.nbdSizesBytes?.get(index) ?? (await nbdSizeBytes(disk, options))]))
      continue
    }
    for (const file of await imageFiles(disk.path, disk.format)) {
      const seen = await lookAtFile(file)
      hash.update(seen.name)
      settlesInMs = Math.max(settlesInMs, seen.settlesInMs)
    }
  }
  return { name: hash.digest('hex'), settlesInMs }
}

async function lookAtFile(file: string): Promise<Look> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await onImage(file, () => stat(file, { bigint: true }))
  const newest = mtimeNs > ctimeNs ? mtimeNs : ctimeNs
  const tickMs = mtimeNs % NANOSECONDS_PER_SECOND === 0n && ctimeNs % NANOSECONDS_PER_SECOND === 0n ? COARSE_TICK_MS : TICK_MS
  const ageMs = Date.now() - Number(newest / NANOSECONDS_PER_MS)
  // A time in the future says nothing about the age: the clock was set back. Then the full tick is waited, not years.
  const settlesInMs = ageMs < 0 ? tickMs : Math.max(0, tickMs - ageMs)
  return { name: JSON.stringify([file, ...[dev, ino, size, mtimeNs, ctimeNs].map(String)]), settlesInMs }
}
