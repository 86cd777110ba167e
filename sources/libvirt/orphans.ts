/** What backups that have ended left on a hypervisor: jobs, checkpoints, bitmaps of shut-off domains, scratch files and sockets. */
import { HoldfastError } from '../../domain/errors.ts'
import type { OrphanOwners } from '../source.ts'
import { abortJob, runningJob } from './backup-job.ts'
import { deleteCheckpointOf, listCheckpoints } from './checkpoints.ts'
import { listDomains, loadDomain, type DomainContext, type DomainPlace } from './domain-context.ts'
import { backupOfCheckpoint, backupOfFile } from './names.ts'
import { absent, lookAtImage } from './offline-images.ts'
import { unmark } from './offline-snapshot.ts'

interface Options {
  signal?: AbortSignal | undefined
}

/**
 * See {@link Platform.removeOrphans}. A domain that cannot be tidied now (another job holds it, it has just been started or removed) does not keep
 * the others from it: it has a line of its own, and the next call tries again. Errors of the connection end it.
 */
export async function removeOrphans(place: DomainPlace, owners: OrphanOwners, options: Options): Promise<string[]> {
  const uuids = await listDomains(place.connection, options)
  const lines: string[] = []
  for (const uuid of uuids) lines.push(...(await tidyDomain(place, uuid, owners, options)))
  return [...lines, ...(await tidyFiles(place, owners))]
}

async function tidyDomain(place: DomainPlace, uuid: string, owners: OrphanOwners, options: Options): Promise<string[]> {
  const lines: string[] = []
  try {
    const context = await loadDomain(place, { uuid }, options)
    await endJobOfEnded(context, owners, lines, options)
    await removeCheckpoints(context, owners, lines, options)
  } catch (error) {
    options.signal?.throwIfAborted()
    if (!(error instanceof HoldfastError) || endsAll.has(error.code)) throw error
    if (error.code !== 'SOURCE_NOT_FOUND') lines.push(`VM ${uuid} could not be tidied: ${error.message}`)
  }
  return lines
}

const endsAll: ReadonlySet<string> = new Set(['SOURCE_UNAVAILABLE', 'SOURCE_AUTHENTICATION_FAILED'])

/** Before its checkpoint: libvirt does not delete one that a job uses. */
async function endJobOfEnded(context: DomainContext, owners: OrphanOwners, lines: string[], options: Options): Promise<void> {
  const job = await runningJob(context, options)
  if (job?.backupId == null || owners.stateOf(job.backupId) !== 'ended') return
  await abortJob(context, job.backupId, options)
  lines.push(`ended the backup job of ${job.backupId} on VM "${context.domain.name}"`)
}

async function removeCheckpoints(context: DomainContext, owners: OrphanOwners, lines: string[], options: Options): Promise<void> {
  const isOff = context.state.power === 'off'
  const marks = new Set(await listCheckpoints(context, options))
  // libvirt is told last when a snapshot of a shut-off domain begins, and first when it is taken back: there may be bitmaps that it does not know.
  if (isOff) for (const name of await bitmapNames(context, options)) marks.add(name)
  for (const name of marks) {
    const backupId = backupOfCheckpoint(name)
    if (backupId === null || owners.changeIdsInUse.has(name) || owners.stateOf(backupId) !== 'ended') continue
    await (isOff ? unmark(context, name, options) : deleteCheckpointOf(context, backupId, options))
    lines.push(`removed checkpoint ${name} of VM "${context.domain.name}"`)
  }
}

async function bitmapNames(context: DomainContext, options: Options): Promise<string[]> {
  const names: string[] = []
  for (const disk of context.included) {
    if (!disk.keepsBitmaps) continue
    const image = await lookAtImage(context.host, disk, options).catch(absent)
    names.push(...(image?.bitmaps ?? []).map(({ name }) => name))
  }
  return names
}

/** After the jobs, which hold theirs open and remove them when they end. */
async function tidyFiles({ connection, host }: DomainPlace, owners: OrphanOwners): Promise<string[]> {
  const folder = connection.scratchFolder
  const lines: string[] = []
  for (const name of await host.listFiles(folder, 'holdfast-')) {
    const backupId = backupOfFile(name)
    if (backupId === null || owners.stateOf(backupId) !== 'ended') continue
    await host.removeFile(`${folder}/${name}`)
    lines.push(`removed ${folder}/${name}`)
  }
  return lines
}
