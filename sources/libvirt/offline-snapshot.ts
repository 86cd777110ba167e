/**
 * Snapshots of a domain that is shut off. Its disks are frozen as long as nobody starts it, and nobody is kept from that: the images are read
 * without a lock, and whether they stayed the same is looked at before and after.
 *
 * Consistency is `crash`, whatever libvirt says of the last stop: it calls a QEMU that was ended from outside "shutdown" too, so an orderly
 * one cannot be told from it.
 */
import { createHash } from 'node:crypto'
import { HoldfastError } from '../../domain/errors.ts'
import type { OpenDisk, Snapshot, SnapshotDisk, SnapshotEnd, SnapshotRequest } from '../source.ts'
import { disksOfCheckpoint, listCheckpoints, unusedCheckpoints } from './checkpoints.ts'
import { describeDisks } from './describe.ts'
import { dirtyContext } from './dirty-bytes.ts'
import type { DomainContext } from './domain-context.ts'
import type { HypervisorHost } from './host.ts'
import type { IncludedDisk } from './included-disks.ts'
import { checkpointName } from './names.ts'
import { forgetCheckpoint, tellCheckpoint, youngestCheckpoint } from './offline-checkpoints.ts'
import { absent, addBitmap, lookAtImage, removeBitmap, type OfflineImage } from './offline-images.ts'
import { bitmapProblem } from './offline-tracking.ts'
import { removeScratchFiles } from './scratch.ts'
import { withoutUntracked } from './untracked.ts'
import { vmConfigOf } from './vm-config.ts'

interface Options {
  signal?: AbortSignal | undefined
}

interface Looked {
  disk: IncludedDisk
  image: OfflineImage
}

/**
 * See {@link Source.beginSnapshot}. `SOURCE_CHANGED` when the domain is not shut off (any more), or a change ID of the parent cannot be
 * started from; `SOURCE_BUSY` when another program has an image open.
 */
export async function beginOffline(context: DomainContext, request: SnapshotRequest, options: Options): Promise<Snapshot> {
  await requireOff(context, options)
  const looked = await lookAtAll(context, options)
  const tracked = onlyTracked(looked, await withoutUntracked(context, request, options))
  try {
    await mark(context, looked, checkpointName(request.backupId), options)
    return await describe(context, tracked, looked, options)
  } catch (error) {
    // What began it failed, and is what has to be heard of. The domain may have been started: then libvirt has the rest to remove.
    await unmark(context, checkpointName(request.backupId), {}).catch(() => undefined)
    throw error
  }
}

/** Without the change IDs that cannot be told since but never could either: such a disk is read from end to end. `SOURCE_CHANGED` for a record that was lost. */
function onlyTracked(looked: readonly Looked[], request: SnapshotRequest): SnapshotRequest {
  const parentChangeIds = { ...request.parentChangeIds }
  for (const { disk, image } of looked) {
    const since = parentChangeIds[disk.target]
    const problem = since === undefined ? null : bitmapProblem(image, since)
    if (since !== undefined && problem?.state === 'lost') throw notTracked(disk, since)
    if (problem) delete parentChangeIds[disk.target]
  }
  return { ...request, parentChangeIds }
}

/**
 * QEMU's locks do not reach other hosts, and a block device may be shared: a domain that is off here may run there, and its image must not
 * be written to. The next backup reads such a disk whole.
 */
function mayBeMarked({ disk, image }: Looked): boolean {
  return image.keepsBitmaps && disk.sourceType === 'file'
}

/**
 * First libvirt is told, then the bitmaps are made: an interruption leaves a checkpoint without some of its bitmaps, which is what a crash of
 * QEMU leaves too, so that everybody can remove it. Bitmaps that are there already began earlier: they will hold all that changes from now on.
 */
async function mark(context: DomainContext, looked: readonly Looked[], name: string, options: Options): Promise<void> {
  const marked = looked.filter(mayBeMarked)
  await tell(
    context,
    name,
    marked.map(({ disk }) => disk.target),
    options,
  )
  for (const { disk, image } of marked) {
    const there = image.bitmaps.find((bitmap) => bitmap.name === name)
    if (there?.enabled && !there.inconsistent) continue
    if (there) await removeBitmap(context.host, disk, name, options)
    await addBitmap(context.host, disk, name, options)
  }
}

async function tell(context: DomainContext, name: string, targets: readonly string[], options: Options): Promise<void> {
  const covered = await disksOfCheckpoint(context, name, options)
  if (targets.length === covered.size && targets.every((target) => covered.has(target))) return
  if (covered.size > 0) await forgetCheckpoint(context, name, options)
  if (targets.length === 0) return
  await tellCheckpoint(context, { name, targets, parent: await youngestCheckpoint(context, options) }, options)
}

async function describe(
  context: DomainContext,
  request: SnapshotRequest,
  looked: readonly Looked[],
  options: Options,
): Promise<Snapshot> {
  const described = await describeDisks(context, options)
  const name = checkpointName(request.backupId)
  const disks = described.map((disk): SnapshotDisk => {
    const seen = looked[disk.index]
    const changeId = seen && mayBeMarked(seen) ? name : null
    return { ...disk, changeId, trackedSince: request.parentChangeIds[disk.key] ?? null }
  })
  const vmConfig = await vmConfigOf(context, disks, options)
  const files = looked.map(({ image }) => image.files)
  const id = snapshotIdOf(name, await fingerprint(context.host, context.included, files))
  // Last: what was looked at before holds only if the domain has not been started since.
  const takenAt = new Date().toISOString()
  const words = await requireOff(context, options)
  return {
    id,
    takenAt,
    consistency: 'crash',
    consistencyReason: `The VM is off (libvirt: ${words}); its disks are as the last stop left them.`,
    disks,
    vmConfig,
    warnings: [],
  }
}

/** See {@link Source.openDisk}. */
export async function openOffline(
  context: DomainContext,
  snapshot: Snapshot,
  diskIndex: number,
  options: { runFolder: string; signal?: AbortSignal | undefined },
): Promise<OpenDisk> {
  const frozen = snapshot.disks[diskIndex]
  const disk = context.included.find(({ target }) => target === frozen?.key)
  if (!frozen || !disk) {
    throw new HoldfastError('SOURCE_CHANGED', `The VM no longer has disk ${frozen?.key ?? diskIndex}. Start the backup again.`, {
      details: { disk: diskIndex },
    })
  }
  const { runFolder, signal } = options
  await requireUnchanged(context, snapshot, { signal })
  const { path, format, sourceType } = disk
  const image = { path, format, sourceType, bitmap: frozen.trackedSince, socketPrefix: checkpointOf(snapshot) }
  const served = await context.host.serveImage(image, { runFolder, signal })
  return {
    endpoint: { type: 'unix', path: served.path, exportName: served.exportName },
    sizeBytes: frozen.sizeBytes,
    changes:
      frozen.trackedSince === null
        ? { type: 'compare-hashes' }
        : { type: 'dirty-bitmap', metaContext: dirtyContext(frozen.trackedSince) },
    async close() {
      await served.close()
      // Not with the signal of the opening: closing also has to tell after a cancellation.
      await requireUnchanged(context, snapshot, {})
    },
  }
}

/** See {@link Source.endSnapshot}: for a domain that is shut off now, whether it was when the snapshot began or not. */
export async function endOffline(context: DomainContext, backupId: string, end: SnapshotEnd, options: Options): Promise<void> {
  const own = checkpointName(backupId)
  if (end.outcome === 'abandoned') await unmark(context, own, options)
  else await unmarkUnused(context, new Set([...end.changeIdsInUse, own]), options)
  // Of a backup that began while the domain ran: libvirt leaves them when QEMU dies.
  await removeScratchFiles(context, backupId)
}

async function unmarkUnused(context: DomainContext, inUse: ReadonlySet<string>, options: Options): Promise<void> {
  // They go when the domain runs and QEMU itself can remove them.
  if (context.included.some(({ sourceType }) => sourceType === 'block')) return
  for (const name of await unusedCheckpoints(context, inUse, options)) await unmark(context, name, options)
}

/**
 * Takes a checkpoint of ours back: first the bitmaps, then libvirt's knowledge, see {@link mark}. Idempotent, also after half of it.
 * `SOURCE_BUSY` when the domain has been started meanwhile.
 */
export async function unmark(context: DomainContext, name: string, options: Options): Promise<void> {
  for (const disk of context.included) {
    if (!disk.keepsBitmaps) continue
    const image = await lookAtImage(context.host, disk, options).catch(absent)
    if (image?.bitmaps.some((bitmap) => bitmap.name === name)) await removeBitmap(context.host, disk, name, options)
  }
  if ((await listCheckpoints(context, options)).includes(name)) await forgetCheckpoint(context, name, options)
}

async function lookAtAll(context: DomainContext, options: Options): Promise<Looked[]> {
  const looked: Looked[] = []
  for (const disk of context.included) looked.push({ disk, image: await lookAtImage(context.host, disk, options) })
  return looked
}

async function requireUnchanged(context: DomainContext, snapshot: Snapshot, options: Options): Promise<void> {
  const files = (await lookAtAll(context, options)).map(({ image }) => image.files)
  const id = snapshotIdOf(checkpointOf(snapshot), await fingerprint(context.host, context.included, files))
  await requireOff(context, options)
  if (id !== snapshot.id) throw changed(context, 'its disk images have been written to')
}

function snapshotIdOf(checkpoint: string, hash: string): string {
  return `offline:${checkpoint}:${hash}`
}

function checkpointOf(snapshot: Snapshot): string {
  return snapshot.id.split(':')[1] ?? ''
}

/** SHA-256 (hex) over which images the domain has, and identity, size and times of all their files. */
async function fingerprint(
  host: HypervisorHost,
  disks: readonly IncludedDisk[],
  files: readonly (readonly string[])[],
): Promise<string> {
  const hash = createHash('sha256')
  for (const [index, disk] of disks.entries()) {
    hash.update(JSON.stringify([disk.target, disk.format]))
    for (const file of files[index] ?? []) hash.update(JSON.stringify([file, await host.fingerprint(file)]))
  }
  return hash.digest('hex')
}

/** libvirt's words for how the domain came to be off. Asked anew: what the context says may be old. */
async function requireOff(context: DomainContext, options: Options): Promise<string> {
  const words = (await context.connection.ask(['domstate', context.uuid, '--reason'], options)).trim()
  // "crashed" alone is a QEMU that is kept, with the disks open; one that died is "shut off (crashed)".
  if (/^(shut off|no state)\b/.test(words)) return words
  throw changed(context, `it has been started (${words})`)
}

function changed({ uuid, domain }: DomainContext, what: string): HoldfastError {
  return new HoldfastError(
    'SOURCE_CHANGED',
    `The VM "${domain.name}" is not what it was when the backup began: ${what}. Start the backup again.`,
    {
      details: { uuid },
    },
  )
}

function notTracked(disk: IncludedDisk, since: string): HoldfastError {
  return new HoldfastError(
    'SOURCE_CHANGED',
    `What changed on disk ${disk.target} since ${since} can no longer be told. Start the backup again.`,
    { details: { disk: disk.target, change_id: since } },
  )
}
