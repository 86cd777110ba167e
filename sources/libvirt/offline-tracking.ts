/** What the bitmaps in a shut-off domain's images can tell. */
import type { Tracking } from '../../domain/chain.ts'
import { dirtyBytes } from './dirty-bytes.ts'
import type { DomainContext } from './domain-context.ts'
import type { IncludedDisk } from './included-disks.ts'
import { lookAtImage, type OfflineImage } from './offline-images.ts'
import { trackingSince } from './tracking.ts'

interface Options {
  signal?: AbortSignal | undefined
}

/** See {@link Source.trackingSince}: of a domain that is shut off. Only reads, and takes no lock. */
export async function trackingOffline(
  context: DomainContext,
  changeIds: Record<string, string | null>,
  options: Options,
): Promise<Record<string, Tracking>> {
  return trackingSince(context, changeIds, (disk, changeId) => trackingOfDisk(context, disk, changeId, options), options)
}

async function trackingOfDisk(context: DomainContext, disk: IncludedDisk, changeId: string, options: Options): Promise<Tracking> {
  const problem = bitmapProblem(await lookAtImage(context.host, disk, options), changeId)
  if (problem) return problem
  const { connection, host } = context
  const { path, format, sourceType } = disk
  // The socket of a moment; should we die meanwhile, its name says whose it was: the backup that the changes are asked since.
  const image = { path, format, sourceType, bitmap: changeId, socketPrefix: changeId }
  const changedBytes = await dirtyBytes(host, image, { runFolder: connection.runFolder, signal: options.signal })
  return { state: 'tracked', changedBytes }
}

/** Why the image's bitmap cannot tell what changed; `null` when it can. */
export function bitmapProblem(image: OfflineImage, changeId: string): Tracking | null {
  if (!image.keepsBitmaps) return { state: 'untracked', detail: 'the image is of QCOW2 version 2, which cannot record changes' }
  const bitmap = image.bitmaps.find(({ name }) => name === changeId)
  if (!bitmap) {
    const detail = `the record of changes since ${changeId} is missing, as after a crash of QEMU`
    return { state: 'lost', fullReason: 'bitmap_lost', detail }
  }
  if (bitmap.inconsistent) {
    const detail = `the record of changes since ${changeId} is inconsistent, as after a crash of QEMU`
    return { state: 'lost', fullReason: 'bitmap_lost', detail }
  }
  if (image.bitmapsBelow.includes(changeId)) {
    // libvirt puts the parts together where QEMU runs. The part of this image alone would miss changes.
    const detail = `a snapshot was taken since, so that the record of changes since ${changeId} lies in several images`
    return { state: 'untracked', detail }
  }
  if (bitmap.enabled) return null
  // libvirt keeps all of them enabled. Somebody stopped this one, and what came after is elsewhere or nowhere.
  return { state: 'untracked', detail: `recording the changes since ${changeId} has been stopped` }
}
