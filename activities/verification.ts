/** Reading a backup back, block by block, and keeping what was found. */
import { cancellationSignal } from '@temporalio/activity'
import type { Catalog } from '../db/client.ts'
import { loadBackupWork } from '../db/queries/backup-records.ts'
import { markDamaged, noteVerificationTrouble, recordVerificationResult } from '../db/queries/verification-records.ts'
import type { DiskDamage } from '../disks/verify.ts'
import type { ChainLink } from '../disks/chain.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { BackupReference, Repository } from '../repositories/repository.ts'
import { locateBackup } from './backup-location.ts'
import type { BackupLocation } from './backup-location.ts'
import { diskOf, linksOfDisk, loadChain } from './chain-links.ts'
import { guarded, guardedResumable } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'
import { resumable } from './resumable.ts'
import type { Position } from './resumable.ts'
import { withRunFolder } from './run-folders.ts'

/** Damage carried through histories, per disk. What a person needs is the first few places, and how many there are. */
const DAMAGE_MAX = 50

export interface FoundDamage extends DiskDamage {
  /** The backup whose files are damaged: the verified one or one of its ancestors, where that is known. */
  backupId: string
}

export interface DiskVerification {
  diskIndex: number
  verifiedBytes: number
  /** The first {@link DAMAGE_MAX}. */
  damage: FoundDamage[]
  damageCount: number
}

export interface VerificationOutcome {
  status: 'passed' | 'failed'
  message: string
  verifiedBytes: number
  damage: (FoundDamage & { diskIndex: number })[]
}

export interface VerificationActivities {
  /** Damage is a result. `REPO_UNAVAILABLE` and the like: nothing is known yet; retried. Starts again after a crash: it writes nothing. */
  verifyDisk(input: { backupId: string; diskIndex: number }): Promise<DiskVerification>
}

/** Steps of a data host. */
export function createVerificationActivities(dependencies: HostDependencies): VerificationActivities {
  return guardedResumable({
    async verifyDisk({ backupId, diskIndex }: { backupId: string; diskIndex: number }): Promise<DiskVerification> {
      return resumable(async (position) => {
        try {
          return await readBack(dependencies, backupId, diskIndex, position)
        } catch (error) {
          if (!isDamage(error) || cancellationSignal().aborted) throw error
          const { repository, reference } = await backupOf(dependencies, backupId)
          await requireStillBroken(repository, reference, error)
          return { diskIndex, verifiedBytes: 0, damage: [brokenChain(error, backupId)], damageCount: 1 }
        }
      })
    },
  })
}

export interface VerificationRecordActivities {
  /** Stores the result; backups whose own files are damaged are excluded as parents too. Idempotent. */
  recordVerification(input: { backupId: string; disks: DiskVerification[] }): Promise<VerificationOutcome>

  /** Notes why nothing could be found out. The status stays what it was. Idempotent. */
  recordVerificationTrouble(input: { backupId: string; message: string }): Promise<void>
}

/** Steps of the control worker. */
export function createVerificationRecordActivities({ catalog }: { catalog: Catalog }): VerificationRecordActivities {
  return guarded({
    async recordVerification({ backupId, disks }: { backupId: string; disks: DiskVerification[] }): Promise<VerificationOutcome> {
      const { job, disks: rows } = await loadBackupWork(catalog, backupId)
      const labels = new Map(rows.map((row) => [row.disk_index, row.label]))
      const outcome = summarize(`VM "${job.vm_name}", backup ${backupId}`, disks, labels)
      await recordVerificationResult(catalog, { backupId, status: outcome.status, message: outcome.message })
      const others = new Set(outcome.damage.map((damage) => damage.backupId).filter((owner) => owner !== backupId))
      await markDamaged(catalog, [...others], outcome.message)
      return outcome
    },

    async recordVerificationTrouble({ backupId, message }: { backupId: string; message: string }): Promise<void> {
      await noteVerificationTrouble(catalog, backupId, message)
    },
  })
}

/** The message names VM, backup, disk and offset of the first damage. */
export function summarize(
  subject: string,
  disks: readonly DiskVerification[],
  labels: ReadonlyMap<number, string>,
): VerificationOutcome {
  const damage = disks.flatMap((disk) => disk.damage.map((found) => ({ ...found, diskIndex: disk.diskIndex })))
  const verifiedBytes = disks.reduce((sum, disk) => sum + disk.verifiedBytes, 0)
  const [first] = damage
  if (!first) {
    const message = `${subject}: all ${disks.length} disks read back as they were first read.`
    return { status: 'passed', message, verifiedBytes, damage }
  }
  const others = disks.reduce((sum, disk) => sum + disk.damageCount, 0) - 1
  const more = others === 0 ? '' : ` (and ${others} more damaged places)`
  const place = `disk ${first.diskIndex} "${labels.get(first.diskIndex) ?? ''}", offset ${first.offsetBytes}`
  return {
    status: 'failed',
    message: `${subject}, ${place}: ${first.message}${more}`,
    verifiedBytes,
    damage: damage.slice(0, DAMAGE_MAX),
  }
}

async function readBack(
  dependencies: HostDependencies,
  backupId: string,
  diskIndex: number,
  position: Position,
): Promise<DiskVerification> {
  const { repository, reference } = await backupOf(dependencies, backupId)
  const chain = await loadChain(repository, reference)
  const links = linksOfDisk(chain, diskOf(chain.newest, diskIndex))
  const signal = cancellationSignal()
  const { verifiedBytes, damage } = await withRunFolder(dependencies.runFolder, (runFolder) =>
    repository.disks.verifyDisk(
      { links, runFolder },
      { signal, onProgress: ({ processedBytes, totalBytes }) => void Object.assign(position, { processedBytes, totalBytes }) },
    ),
  )
  const found = damage.slice(0, DAMAGE_MAX).map((item) => ({ ...item, backupId: ownerOf(item, links) ?? backupId }))
  return { diskIndex, verifiedBytes, damage: found, damageCount: damage.length }
}

async function backupOf(dependencies: HostDependencies, backupId: string): Promise<BackupLocation> {
  return locateBackup(await loadBackupWork(dependencies.catalog, backupId), dependencies)
}

/**
 * A share that goes away between two looks shows a repository without backups. So a backup is called broken only when a second look,
 * which begins with the repository itself, finds nothing better; else `REPO_UNAVAILABLE`, or what the second look threw.
 */
export async function requireStillBroken(
  repository: Repository,
  reference: BackupReference,
  error: HoldfastError,
): Promise<void> {
  if (!isAbsence(error) && !isAbsence(error.cause)) return
  try {
    await loadChain(repository, reference)
  } catch (second) {
    if (isDamage(second)) return
    throw second
  }
  throw new HoldfastError(
    'REPO_UNAVAILABLE',
    `Backup ${reference.backupId} was away for a moment: ${error.message} Check that the repository stays mounted.`,
    { cause: error },
  )
}

function isAbsence(error: unknown): boolean {
  return error instanceof HoldfastError && error.code === 'BACKUP_NOT_FOUND'
}

function ownerOf(damage: DiskDamage, links: readonly ChainLink[]): string | undefined {
  return links.find((link) => damage.file.startsWith(`${link.folder}/`))?.backupId
}

const damageCodes: ReadonlySet<string> = new Set(['BACKUP_NOT_FOUND', 'BACKUP_CORRUPT', 'CORRUPT_CHAIN', 'DISK_NOT_FOUND'])

function isDamage(error: unknown): error is HoldfastError {
  return error instanceof HoldfastError && damageCodes.has(error.code)
}

function brokenChain({ message, details }: HoldfastError, backupId: string): FoundDamage {
  const file = typeof details['path'] === 'string' ? details['path'] : ''
  const owner = details['backupId']
  return { kind: 'chain', offsetBytes: 0, lengthBytes: 0, message, file, backupId: typeof owner === 'string' ? owner : backupId }
}
