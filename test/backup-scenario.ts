/** A registered VM with image files and a registered repository, and the steps that tests take with them. */
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Selectable } from 'kysely'
import { expect } from 'vitest'
import type { BackupJobsTable } from '../db/schema.ts'
import { backupIdFor } from '../domain/ids.ts'
import type { BackupAdmission, StartBackupRequest } from '../temporal/operations.ts'
import { noise } from './disk-backups.ts'
import type { HoldfastProcesses } from './holdfast-processes.ts'

export const MIB = 1024 * 1024

export interface Scenario {
  vmContextId: string
  vmName: string
  repositoryId: string
  repositoryPath: string
  /** Raw image files, by disk index. */
  images: string[]
  /** Starts a backup; resolves with the admission. */
  start(change?: Partial<StartBackupRequest>): Promise<BackupAdmission>
  /** Starts a backup and waits until it has ended. */
  backUp(change?: Partial<StartBackupRequest>): Promise<Selectable<BackupJobsTable>>
  ended(backupId: string): Promise<Selectable<BackupJobsTable>>
  /** Waits for the verification to end and returns the row. */
  verify(backupId: string): Promise<Selectable<BackupJobsTable>>
  /** Absolute path of the published or staged folder. */
  folderOf(backupId: string): string
  /** Waits until the backup has copied so many bytes. */
  reached(backupId: string, processedBytes: number): Promise<void>
}

/** Registers both. Disks are filled with what does not compress. */
export async function createScenario(holdfast: HoldfastProcesses, diskSizesBytes: number[]): Promise<Scenario> {
  const { catalog, operations, home, client } = holdfast
  const unique = randomBytes(4).toString('hex')
  const vmContextId = `ctx-${unique}`
  const vmName = `vm-${unique}`
  const repositoryId = `repo-${unique}`
  const repositoryPath = join(home, repositoryId)
  const images = diskSizesBytes.map((_, index) => join(home, `${vmName}-${index}.raw`))
  for (const [index, path] of images.entries()) await writeFile(path, noise(diskSizesBytes[index]!, index + 1))
  await mkdir(repositoryPath)
  await operations.registerRepository({
    repositoryId,
    name: repositoryId,
    type: 'local',
    hostId: 'local',
    config: { path: repositoryPath },
  })
  const disks = images.map((path, index) => ({ key: `disk-${index}`, label: `disk ${index}`, format: 'raw', path }))
  await operations.registerVm({ contextId: vmContextId, vmName, sourceType: 'disk-image', hostId: 'local', config: { disks } })

  const rowOf = (backupId: string) =>
    catalog.selectFrom('backup_jobs').selectAll().where('id', '=', backupId).executeTakeFirstOrThrow()

  const scenario: Scenario = {
    vmContextId,
    vmName,
    repositoryId,
    repositoryPath,
    images,
    start: (change = {}) =>
      operations.startBackup({
        backupId: backupIdFor(vmName, new Date(), randomBytes(3).toString('hex')),
        vmContextId,
        repositoryId,
        backupType: 'full',
        compression: 'none',
        rateLimitBytesPerSecond: null,
        ...change,
      }),
    async backUp(change) {
      const { backupId } = await scenario.start(change)
      return scenario.ended(backupId)
    },
    async ended(backupId) {
      await expect.poll(() => rowOf(backupId), { timeout: 90_000, interval: 100 }).toSatisfy(hasEnded)
      // The row goes last but one: the workflow holds the VM until it has closed.
      await client.workflow
        .getHandle(`vm-chain:${vmContextId}`)
        .result()
        .catch(() => undefined)
      return rowOf(backupId)
    },
    async verify(backupId) {
      const { workflowId } = await operations.verifyBackup(backupId, repositoryId)
      await client.workflow.getHandle(workflowId).result()
      return rowOf(backupId)
    },
    folderOf: (backupId) => join(repositoryPath, 'vms', `${vmName}--${vmContextId.slice(-8)}`, backupId),
    async reached(backupId, processedBytes) {
      await expect
        .poll(async () => (await rowOf(backupId)).processed_bytes, { timeout: 60_000, interval: 50 })
        .toBeGreaterThanOrEqual(processedBytes)
    },
  }
  return scenario
}

function hasEnded(row: Selectable<BackupJobsTable>): boolean {
  return row.status !== 'pending' && row.status !== 'running'
}
