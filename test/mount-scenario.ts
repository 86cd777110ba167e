/** A backup of small disks with file systems, the processes that mount them, and the API in front. */
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DriverName } from '../domain/restore-mount.ts'
import { restoreMountId } from '../temporal/restore-mount-ids.ts'
import { runTool } from '../tools/run-tool.ts'
import { createTestApi } from './api-app.ts'
import type { TestApi } from './api-app.ts'
import { MIB, registerRepository, stepsOf } from './backup-scenario.ts'
import { noise } from './disk-backups.ts'
import { createHoldfastProcesses } from './holdfast-processes.ts'
import type { HoldfastProcesses } from './holdfast-processes.ts'

export const FILE_NAME = 'content.bin'

export interface MountScenarioOptions {
  disks: number
  /** Of the file on each disk. */
  fileBytes: number
  driver?: DriverName
  /** Of the repository's folder, somewhere else than with the others. */
  repositoryPath?: string
}

export interface MountedDisk {
  diskIndex: number
  mountId: string
  /** SHA-256 of its file, hexadecimal. */
  sha256: string
}

export interface MountScenario {
  holdfast: HoldfastProcesses
  api: TestApi
  /** Of the API on a socket, with /api/v1. */
  url: string
  backupId: string
  disks: MountedDisk[]
  /** Opens it through the API, and again while that says "try again". */
  mount(disk: MountedDisk): Promise<void>
  release(disk: MountedDisk): Promise<void>
  /** Begins to download the disk's file. */
  download(disk: MountedDisk): Promise<Response>
  close(): Promise<void>
}

/** Backed up, and nothing mounted yet. */
export async function createMountScenario(options: MountScenarioOptions): Promise<MountScenario> {
  const { driver = 'user-mode-linux' } = options
  const holdfast = await createHoldfastProcesses(['control', 'mover'], { HOLDFAST_MOUNT_DRIVER: driver })
  let api: TestApi | undefined
  try {
    const { catalog, operations, home } = holdfast
    const { backupId, sums } = await backUpDisks(holdfast, options)
    const opened = (api = await createTestApi({ real: { catalog, operations, home } }))
    const url = await opened.listen()
    const disks = sums.map((sha256, diskIndex) => ({ diskIndex, mountId: restoreMountId(backupId, diskIndex), sha256 }))
    return {
      holdfast,
      api: opened,
      url,
      backupId,
      disks,
      mount: (disk) => mountDisk(opened, backupId, disk),
      async release({ mountId }) {
        const { status, body } = await opened.call('DELETE', `/restore/${mountId}`)
        if (status !== 200) throw new Error(`release of ${mountId}: ${JSON.stringify(body)}`)
      },
      download: ({ mountId }) =>
        fetch(`${url}/restore/${mountId}/download?path=/${FILE_NAME}`, {
          headers: { Authorization: opened.authorizationOf('admin') },
        }),
      async close() {
        await opened.drop()
        await holdfast.close()
      },
    }
  } catch (error) {
    await api?.drop()
    await holdfast.close()
    throw error
  }
}

/** One backup with all the disks. Returns the SHA-256 of each one's file. */
async function backUpDisks(
  holdfast: HoldfastProcesses,
  { disks: count, fileBytes, repositoryPath }: MountScenarioOptions,
): Promise<{ backupId: string; sums: string[] }> {
  const sums: string[] = []
  const disks: { key: string; label: string; format: string; path: string }[] = []
  for (let index = 0; index < count; index += 1) {
    const path = join(holdfast.home, `disk-${index}.raw`)
    sums.push(await makeDisk(path, fileBytes, index))
    disks.push({ key: `disk-${index}`, label: `disk ${index}`, format: 'raw', path })
  }
  const vm = { vmContextId: 'ctx-mounts', vmName: 'mounts' }
  const registration = { sourceType: 'disk-image', hostId: 'local', config: { disks } } as const
  await holdfast.operations.registerVm({ contextId: vm.vmContextId, vmName: vm.vmName, ...registration })
  const repository = await registerRepository(holdfast, repositoryPath)
  const { backupId } = await stepsOf(holdfast, { ...vm, ...repository }).start()
  // Throws why, if it did not complete.
  await holdfast.client.workflow.getHandle(`vm-chain:${vm.vmContextId}`).result()
  return { backupId, sums }
}

/** A file system on the whole disk with one file that no other disk has. */
async function makeDisk(path: string, fileBytes: number, seed: number): Promise<string> {
  const folder = await mkdtemp(`${path}-`)
  const content = noise(fileBytes, seed + 1)
  await mkdir(join(folder, 'folder'))
  await writeFile(join(folder, FILE_NAME), content)
  const sizeMib = Math.ceil((fileBytes / MIB) * 1.25) + 4
  await runTool('mkfs.ext4', ['-q', '-F', '-O', '^has_journal', '-d', folder, path, `${sizeMib}M`], { timeoutMs: 60_000 })
  await rm(folder, { recursive: true })
  return createHash('sha256').update(content).digest('hex')
}

const MOUNT_MS = 300_000

async function mountDisk(api: TestApi, backupId: string, { diskIndex, mountId }: MountedDisk): Promise<void> {
  const deadline = Date.now() + MOUNT_MS
  for (;;) {
    const body = { backup_id: backupId, disk_index: diskIndex }
    const answer = await api.call<{ mount_id?: string }>('POST', '/restore/mount', { body })
    if (answer.status === 200 && answer.body.mount_id === mountId) return
    // Longer than a caller waits: it goes on by itself.
    if (answer.body.error_code !== 'MOUNT_NOT_READY' || Date.now() > deadline)
      throw new Error(`mount ${mountId}: ${JSON.stringify(answer.body)}`)
  }
}
