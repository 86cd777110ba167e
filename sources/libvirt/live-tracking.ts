/** What libvirt can tell of a running domain's changes: it looks at QEMU's bitmaps itself. */
import type { Element } from '@xmldom/xmldom'
import type { Tracking } from '../../domain/chain.ts'
import { coveredDisks } from './checkpoints.ts'
import type { DomainContext } from './domain-context.ts'
import { trackingSince } from './tracking.ts'

interface Options {
  signal?: AbortSignal | undefined
}

/** See {@link Source.trackingSince}. */
export async function trackingLive(
  context: DomainContext,
  changeIds: Record<string, string | null>,
  options: Options,
): Promise<Record<string, Tracking>> {
  const sizes = new Map<string, Map<string, number | null>>()
  const tellsBitmap = async (target: string, changeId: string): Promise<Tracking> => {
    const changed = sizes.get(changeId) ?? (await changedBytes(context, changeId, options))
    sizes.set(changeId, changed)
    return trackingOf(target, changeId, changed)
  }
  return trackingSince(context, changeIds, (disk, changeId) => tellsBitmap(disk.target, changeId), options)
}

function trackingOf(target: string, changeId: string, changed: Map<string, number | null>): Tracking {
  const bytes = changed.get(target)
  if (bytes === undefined) {
    const detail = `checkpoint ${changeId} does not cover disk ${target}`
    return { state: 'lost', fullReason: 'checkpoint_missing', detail }
  }
  if (bytes === null) {
    const detail = `the record of changes since ${changeId} is missing or inconsistent, as after a crash of QEMU`
    return { state: 'lost', fullReason: 'bitmap_lost', detail }
  }
  return { state: 'tracked', changedBytes: bytes }
}

/** By target, of the disks that the checkpoint covers; `null` where the bitmap, or one that it must be merged with, cannot be used. */
async function changedBytes(
  { connection, uuid }: DomainContext,
  name: string,
  options: Options,
): Promise<Map<string, number | null>> {
  const xml = await connection.ask(['checkpoint-dumpxml', uuid, name, '--size', '--no-domain'], options)
  const sizeOf = (disk: Element): number | null => (disk.hasAttribute('size') ? Number(disk.getAttribute('size')) : null)
  return new Map([...coveredDisks(xml)].map(([target, disk]) => [target, sizeOf(disk)]))
}
