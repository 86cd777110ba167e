/** Checkpoints of a running domain: "changed since here", one for each backup. */
import type { Element } from '@xmldom/xmldom'
import { HoldfastError } from '../../domain/errors.ts'
import { isSaying } from './backup-job.ts'
import type { DomainContext } from './domain-context.ts'
import { child, children, parseXml, text } from './domain-xml.ts'
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

/** What libvirt notes of a checkpoint, as XML; `null` when it does not know it. `form`: options of `checkpoint-dumpxml`. */
export async function askCheckpoint(
  { connection, uuid }: DomainAt,
  name: string,
  form: readonly string[],
  options: Options,
): Promise<string | null> {
  try {
    return await connection.ask(['checkpoint-dumpxml', uuid, name, ...form], options)
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

/** Targets of the disks that a checkpoint covers; empty when there is no such checkpoint. */
export async function disksOfCheckpoint(domain: DomainAt, name: string, options: Options): Promise<Set<string>> {
  const xml = await askCheckpoint(domain, name, ['--no-domain'], options)
  return new Set(xml === null ? [] : coveredDisks(xml).keys())
}

/** By target, of the disks that a checkpoint's XML says it covers. */
export function coveredDisks(xml: string): Map<string, Element> {
  const disks = children(child(parseXml(xml).documentElement, 'disks'), 'disk')
  const covered = disks.filter((disk) => disk.getAttribute('checkpoint') === 'bitmap')
  return new Map(covered.map((disk) => [disk.getAttribute('name') ?? '', disk]))
}

/** Names of this connection's checkpoints that nobody starts from any more. */
export async function unusedCheckpoints(domain: DomainAt, inUse: ReadonlySet<string>, options: Options): Promise<string[]> {
  const unused: string[] = []
  for (const name of await listCheckpoints(domain, options)) {
    if (!inUse.has(name) && (await isOwn(domain, name, options))) unused.push(name)
  }
  return unused
}

/** Deletes them; others stay. What one tells is merged into the one before it. */
export async function deleteUnused(context: DomainContext, inUse: ReadonlySet<string>, options: Options): Promise<void> {
  for (const name of await unusedCheckpoints(context, inUse, options)) await deleteCheckpoint(context, name, options)
}

/** Whether this very connection made the checkpoint: the other ones may be what somebody else's next backup starts from. */
async function isOwn(domain: DomainAt, name: string, options: Options): Promise<boolean> {
  if (backupOfCheckpoint(name) === null) return false
  const xml = await askCheckpoint(domain, name, ['--no-domain'], options)
  return xml !== null && text(parseXml(xml).documentElement, 'description') === checkpointDescription(domain.connection)
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
