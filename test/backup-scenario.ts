/** A registered VM with image files and a registered repository, and the steps that tests take with them. */
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Selectable } from 'kysely'
import { expect } from 'vitest'
import type { BackupJobsTable } from '../db/schema.ts'
import { backupIdFor, vmFolderName } from '../domain/ids.ts'
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

/** A VM of image files, filled with what does not compress, and a repository, in the home folder unless a place is given; registers both. */
export async function createScenario(
  holdfast: HoldfastProcesses,
  diskSizesBytes: number[],
  repositoryPath?: string,
): Promise<Scenario> {
  const { operations, home } = holdfast
  const unique = randomBytes(4).toString('hex')
  const vm = { vmContextId: `ctx-${unique}`, vmName: `vm-${unique}` }
  const images = diskSizesBytes.map((_, index) => join(home, `${vm.vmName}-${index}.raw`))
  for (const [index, path] of images.entries()) await writeFile(path, noise(diskSizesBytes[index]!, index + 1))
  const disks = images.map((path, index) => ({ key: `disk-${index}`, label: `disk ${index}`, format: 'raw', path }))
  const registration = { sourceType: 'disk-image', hostId: 'local', config: { disks } } as const
  await operations.registerVm({ contextId: vm.vmContextId, vmName: vm.vmName, ...registration })
  const repository = await registerRepository(holdfast, repositoryPath)
  return { ...vm, ...repository, images, ...stepsOf(holdfast, { ...vm, ...repository }) }
}

/** A local repository, in the home folder unless a place is given. */
export async function registerRepository(
  { operations, home }: HoldfastProcesses,
  path?: string,
): Promise<Pick<Scenario, 'repositoryId' | 'repositoryPath'>> {
  const repositoryId = `repo-${randomBytes(4).toString('hex')}`
  const repositoryPath = path ?? join(home, repositoryId)
  await mkdir(repositoryPath, { recursive: true })
  const place = { type: 'local', hostId: 'local', config: { path: repositoryPath } } as const
  await operations.registerRepository({ repositoryId, name: repositoryId, ...place })
  return { repositoryId, repositoryPath }
}

export type BackupSteps = Pick<Scenario, 'start' | 'backUp' | 'ended' | 'verify' | 'folderOf' | 'reached'>

/** What tests do with a VM, whatever it comes from. */
export function stepsOf(
  { catalog, operations, client }: HoldfastProcesses,
  vm: Pick<Scenario, 'vmContextId' | 'vmName' | 'repositoryId' | 'repositoryPath'>,
): BackupSteps {
  const { vmContextId, vmName, repositoryId, repositoryPath } = vm
  const rowOf = (backupId: string) =>
    catalog.selectFrom('backup_jobs').selectAll().where('id', '=', backupId).executeTakeFirstOrThrow()

  const steps: BackupSteps = {
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
      const { backupId } = await steps.start(change)
      return steps.ended(backupId)
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
    folderOf: (backupId) => join(repositoryPath, 'vms', vmFolderName(vmName, vmContextId), backupId),
    async reached(backupId, processedBytes) {
      await expect
        .poll(async () => (await rowOf(backupId)).processed_bytes, { timeout: 60_000, interval: 50 })
        .toBeGreaterThanOrEqual(processedBytes)
    },
  }
  return steps
}

function hasEnded(row: Selectable<BackupJobsTable>): boolean {
  return row.status !== 'pending' && row.status !== 'running'
}
