/** The disk that mounts are measured on: 100 GiB with little on it, as a chain of ten backups. */
import { mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ChainLink } from '../../disks/chain.ts'
import { startQemuNbd } from '../../tools/qemu-nbd.ts'
import { runTool } from '../../tools/run-tool.ts'
import { benchDisk } from '../bench-disk.ts'
import { measure } from '../measure.ts'
import { runStep, stepCommand } from '../runs.ts'
import type { FillStep, MountPlan, TransferStep } from '../steps/step-input.ts'

const GIB = 1024 ** 3
const CHAIN_LENGTH = 10
const MAKE_FILE_SYSTEM_MS = 600_000

export interface MountDiskOptions {
  folder: string
  /** Short: unix sockets go below it. */
  runFolder: string
  /** Of the two files together. */
  dataBytes: number
}

export interface MountDisk {
  /** Oldest first. */
  links: ChainLink[]
  plan: MountPlan
  /** Raw, as the newest backup has it. */
  image: string
}

export async function makeMountDisk(options: MountDiskOptions): Promise<MountDisk> {
  const { folder, dataBytes } = options
  const plan = planOf(dataBytes)
  const image = join(folder, 'mounts.raw')
  await writeFile(image, '')
  await truncate(image, plan.sizeBytes)
  // A small journal: it is written in full, and it would be read for each of the backups.
  await runTool('mkfs.ext4', ['-q', '-F', '-J', 'size=64', image], { timeoutMs: MAKE_FILE_SYSTEM_MS })
  const links: ChainLink[] = []
  for (let generation = 0; generation < CHAIN_LENGTH; generation += 1) {
    await fill(options, image, { plan, generation })
    links.push(await backUp(options, image, plan, links))
    console.error(`  backup ${generation + 1} of ${CHAIN_LENGTH}: done`)
  }
  return { links, plan, image }
}

/** The large folder's size follows the data's: 10 GiB of 1 GiB. */
function planOf(dataBytes: number): MountPlan {
  return {
    sizeBytes: 100 * GIB,
    fileBytes: dataBytes / 2,
    mixed: 'mixed.bin',
    incompressible: 'incompressible.bin',
    crowd: 'crowd',
    crowdFiles: 100_000,
    heap: 'heap',
    heapFiles: 20,
    changedShare: 0.01,
  }
}

/** In a mount namespace of its own, so that nothing stays mounted, however this ends; what fills it ends with the shell. */
async function fill({ folder }: MountDiskOptions, image: string, what: Omit<FillStep, 'folder'>): Promise<void> {
  const mountedAt = join(folder, 'mounted')
  await mkdir(mountedAt, { recursive: true })
  const script = 'mount -o loop,noatime "$1" "$2"; shift 2; setpriv --pdeathsig KILL -- "$@"; umount "$0"'
  const step = ['node', ...stepCommand('fill-disk', { ...what, folder: mountedAt })]
  const inside = ['--mount', '--propagation', 'private', '--', 'sh', '-ec', script, mountedAt, image, mountedAt, ...step]
  await measure('unshare', inside)
}

async function backUp(
  { folder, runFolder }: MountDiskOptions,
  image: string,
  plan: MountPlan,
  parent: readonly ChainLink[],
): Promise<ChainLink> {
  const backupId = `mounts-${parent.length}`
  const target = join(folder, backupId)
  const sourceSocket = join(runFolder, 'mounts.sock')
  await mkdir(target)
  const blockGraph = { filename: image, format: 'raw' }
  const served = { socketPath: sourceSocket, exportName: '', readOnly: true, connections: 8 }
  const server = await startQemuNbd({ ...served, blockGraph, cache: 'writeback', aio: 'threads' })
  try {
    const step: TransferStep = {
      sourceSocket,
      sizeBytes: plan.sizeBytes,
      folder: target,
      backupId,
      compression: 'zstd',
      parent: parent.length === 0 ? null : [...parent],
      runFolder,
    }
    const cost = await runStep('transfer', step, folder)
    return { backupId, folder: target, disk: benchDisk(step, cost.output) }
  } finally {
    await server.stop(5_000)
  }
}
