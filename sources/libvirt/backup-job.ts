/**
 * libvirt's backup job on a domain: at most one at a time. Whose it is shows in its socket's name, and what must outlive our process in the
 * names of its exports: they live and die with the job.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../../domain/errors.ts'
import type { DomainContext } from './domain-context.ts'
import { child, children, parseXml } from './domain-xml.ts'
import { freezeOutcomeOf, type FreezeOutcome } from './freeze.ts'
import { backupOfSocket, checkpointName } from './names.ts'

/** What is decided when a job begins. */
export interface JobFacts {
  /** Tells this job from every other one of the same backup. */
  nonce: string
  takenAt: Date
  outcome: FreezeOutcome
}

export interface BackupJob {
  socketPath: string | null
  /** `null` when it is none of ours. */
  backupId: string | null
  facts: JobFacts | null
  disks: JobDisk[]
}

export interface JobDisk {
  target: string
  exportName: string
  /** The checkpoint whose changes the export tells; `null` when it tells none. */
  incrementalFrom: string | null
}

/** The bitmap's name in every export. */
export const EXPORT_BITMAP = 'dirty'

type DomainAt = Pick<DomainContext, 'connection' | 'uuid'>

interface Options {
  signal?: AbortSignal | undefined
}

export function newNonce(): string {
  return randomBytes(6).toString('hex')
}

export function exportNameOf(target: string, { nonce, takenAt, outcome }: JobFacts): string {
  return [target, outcome, takenAt.getTime(), nonce].join('.')
}

/** The running backup job, `null` without one. Errors of `virsh`. */
export async function runningJob({ connection, uuid }: DomainAt, options: Options): Promise<BackupJob | null> {
  try {
    return parseJob(await connection.ask(['backup-dumpxml', uuid], options))
  } catch (error) {
    if (isSaying(error, /no domain backup job present|domain is not running/i)) return null
    throw error
  }
}

/** `SOURCE_INVALID` when it is no backup's XML. */
export function parseJob(xml: string): BackupJob {
  const root = parseXml(xml).documentElement
  const socketPath = child(root, 'server')?.getAttribute('socket') ?? null
  const disks = children(child(root, 'disks'), 'disk')
    .filter((disk) => disk.getAttribute('backup') === 'yes')
    .map((disk) => ({
      target: disk.getAttribute('name') ?? '',
      exportName: disk.getAttribute('exportname') ?? '',
      incrementalFrom: disk.getAttribute('incremental') || null,
    }))
  const facts = disks[0] ? factsOf(disks[0].exportName) : null
  return { socketPath, backupId: facts && socketPath !== null ? backupOfSocket(socketPath) : null, facts, disks }
}

function factsOf(exportName: string): JobFacts | null {
  const found = /^\w+\.([a-z-]+)\.(\d{1,15})\.([0-9a-f]{12})$/.exec(exportName)
  if (!found) return null
  const [, outcome = '', takenAt, nonce = ''] = found
  return { outcome: freezeOutcomeOf(outcome), takenAt: new Date(Number(takenAt)), nonce }
}

/** A name for the frozen content of this very job. */
export function snapshotIdOf({ backupId, facts }: BackupJob): string | null {
  return backupId !== null && facts !== null ? `live:${checkpointName(backupId)}:${facts.nonce}` : null
}

/** How long libvirt may take to end a job: QEMU closes exports and scratch images. */
const ABORT_MS = 60_000
const ABORT_POLL_MS = 100

/**
 * Ends the job of this backup if it runs, and waits until it is gone. Returns the job that it found. Idempotent. `SOURCE_UNAVAILABLE` when it
 * does not go.
 */
export async function abortJob(domain: DomainAt, backupId: string, options: Options): Promise<BackupJob | null> {
  let ours: BackupJob | null = null
  for (const deadline = Date.now() + ABORT_MS; ;) {
    const job = await runningJob(domain, options)
    if (job?.backupId !== backupId) return ours
    ours = job
    // The job may end by itself between the two questions, and libvirt may be ending it already: the next look tells.
    await domain.connection.ask(['domjobabort', domain.uuid], options).catch((error: unknown) => {
      if (!isSaying(error, /no job is active|domain is not running|being aborted|state change lock/i)) throw error
    })
    if (Date.now() > deadline) {
      throw new HoldfastError('SOURCE_UNAVAILABLE', `libvirt did not end the backup job of ${backupId} within ${ABORT_MS} ms.`, {
        details: { backup_id: backupId, uuid: domain.uuid },
      })
    }
    await delay(ABORT_POLL_MS, undefined, { signal: options.signal })
  }
}

/** `SOURCE_BUSY` when anything else works on the domain: another program's backup, a migration, a save. */
export async function refuseForeignJob(
  domain: DomainAt,
  job: BackupJob | null,
  backupId: string,
  options: Options,
): Promise<void> {
  if (job) {
    if (job.backupId === backupId) return
    const whose = job.backupId === null ? 'another program' : `backup ${job.backupId}`
    throw busy(domain, `a backup job of ${whose} runs on it`, { socket: job.socketPath, backup_id: job.backupId })
  }
  const info = await domain.connection.ask(['domjobinfo', domain.uuid], options)
  const operation = /^Operation:\s*(.*?)\s*$/m.exec(info)?.[1]
  if (operation !== undefined) throw busy(domain, `libvirt is busy with it (${operation})`, { operation })
}

function busy({ uuid }: DomainAt, reason: string, details: Record<string, string | null>): HoldfastError {
  return new HoldfastError('SOURCE_BUSY', `The VM ${uuid} cannot be backed up now: ${reason}. Wait until that is done.`, {
    details: { uuid, ...details },
  })
}

/** Whether an error is `virsh`'s, in words that no code of ours stands for. */
export function isSaying(error: unknown, words: RegExp): boolean {
  return error instanceof HoldfastError && words.test(error.message)
}
