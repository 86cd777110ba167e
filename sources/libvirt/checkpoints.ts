/** Checkpoints of a running domain: "changed since here", one for each backup. */
import type { Tracking } from '../../domain/chain.ts'
import { HoldfastError } from '../../domain/errors.ts'
import { isSaying } from './backup-job.ts'
import type { DomainContext } from './domain-context.ts'
import { exchangedDisks } from './exchanged-disks.ts'
import { child, children, parseXml, text } from './domain-xml.ts'
import { untracked } from './untracked.ts'
import { backupOfCheckpoint, checkpointDescription, checkpointName } from './names.ts'
import { removeStaleBitmaps } from './stale-bitmaps.ts'

type DomainAt = Pick<DomainContext, 'connection' | 'uuid'>

interface Options {
  signal?: AbortSignal | undefined
}

/** Names of all checkpoints, other programs' too. */
export async function listCheckpoints({ connection, uuid }: DomainAt, options: Options): Promise<string[]> {
  const list = await connection.ask(['checkpoint-list', uuid, '--name'], options)
  return list.split('\n').filter((name) => name.trim() !== '')
}

/** See {@link Source.trackingSince}: of a running domain, where libvirt itself looks at the bitmaps. */
export async function trackingLive(
  context: DomainContext,
  changeIds: Record<string, string | null>,
  options: Options,
): Promise<Record<string, Tracking>> {
  const known = new Set(await listCheckpoints(context, options))
  const sizes = new Map<string, Map<string, number | null>>()
  const exchanged = await exchangedDisks(context, changeIds, options)
  const answers: Record<string, Tracking> = {}
  for (const disk of context.included) {
    const changeId = changeIds[disk.target]
    if (changeId === undefined) continue
    const reason = untracked(context, disk, changeId) ?? exchanged.get(disk.target) ?? null
    if (reason !== null || changeId === null) {
      answers[disk.target] = reason ?? { state: 'untracked', detail: 'the parent recorded no point to start from' }
      continue
    }
    if (!known.has(changeId)) {
      answers[disk.target] = checkpointMissing(changeId)
      continue
    }
    const changed = sizes.get(changeId) ?? (await changedBytes(context, changeId, options))
    sizes.set(changeId, changed)
    answers[disk.target] = trackingOf(disk.target, changeId, changed)
  }
  return answers
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

export function checkpointMissing(changeId: string): Tracking {
  const detail = `libvirt no longer knows the checkpoint ${changeId}: the VM was reverted, moved, or another program removed it`
  return { state: 'lost', fullReason: 'checkpoint_missing', detail }
}

/** By target, of the disks that the checkpoint covers; `null` where the bitmap, or one that it must be merged with, cannot be used. */
async function changedBytes({ connection, uuid }: DomainAt, name: string, options: Options): Promise<Map<string, number | null>> {
  const xml = await connection.ask(['checkpoint-dumpxml', uuid, name, '--size', '--no-domain'], options)
  const disks = children(child(parseXml(xml).documentElement, 'disks'), 'disk')
  return new Map(
    disks
      .filter((disk) => disk.getAttribute('checkpoint') === 'bitmap')
      .map((disk) => [disk.getAttribute('name') ?? '', disk.hasAttribute('size') ? Number(disk.getAttribute('size')) : null]),
  )
}

/** Targets of the disks that a checkpoint covers; empty when there is no such checkpoint. */
export async function disksOfCheckpoint(domain: DomainAt, name: string, options: Options): Promise<Set<string>> {
  try {
    const xml = await domain.connection.ask(['checkpoint-dumpxml', domain.uuid, name, '--no-domain'], options)
    const disks = children(child(parseXml(xml).documentElement, 'disks'), 'disk')
    const covered = disks.filter((disk) => disk.getAttribute('checkpoint') === 'bitmap')
    return new Set(covered.map((disk) => disk.getAttribute('name') ?? ''))
  } catch (error) {
    if (isMissing(error)) return new Set()
    throw error
  }
}

/** Deletes this connection's checkpoints that nobody starts from any more; others stay. What one tells is merged into the one before it. */
export async function deleteUnused(context: DomainContext, inUse: ReadonlySet<string>, options: Options): Promise<void> {
  for (const name of await listCheckpoints(context, options)) {
    if (!inUse.has(name) && (await isOwn(context, name, options))) await deleteCheckpoint(context, name, options)
  }
}

/** Whether this very connection made the checkpoint: the other ones may be what somebody else's next backup starts from. */
export async function isOwn(domain: DomainAt, name: string, options: Options): Promise<boolean> {
  if (backupOfCheckpoint(name) === null) return false
  try {
    const xml = await domain.connection.ask(['checkpoint-dumpxml', domain.uuid, name, '--no-domain'], options)
    return text(parseXml(xml).documentElement, 'description') === checkpointDescription(domain.connection)
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

/**
 * Deletes the checkpoint of a backup. Idempotent. Where its bitmap is gone only libvirt's note of it is left to be removed, and on
 * disks where it is not gone but broken the bitmap too.
 */
export async function deleteCheckpointOf(context: DomainContext, backupId: string, options: Options): Promise<void> {
  const name = checkpointName(backupId)
  if ((await listCheckpoints(context, options)).includes(name)) await deleteCheckpoint(context, name, options)
}

async function deleteCheckpoint(context: DomainContext, name: string, options: Options): Promise<void> {
  const { connection, uuid } = context
  try {
    await connection.ask(['checkpoint-delete', uuid, name], options)
  } catch (error) {
    if (isMissing(error)) return
    if (!(error instanceof HoldfastError) || error.code !== 'TOOL_FAILED') throw error
    await connection.ask(['checkpoint-delete', uuid, name, '--metadata'], options)
    await removeStaleBitmaps(context, name, options)
  }
}

function isMissing(error: unknown): boolean {
  return isSaying(error, /checkpoint not found|no domain checkpoint with matching name/i)
}
