/** The file systems that a host's kernel is trusted with, and how each is mounted so that nothing is written, replayed or run. */
import { readFile } from 'node:fs/promises'
import { HoldfastError } from '../../domain/errors.ts'
import { runTool } from '../../tools/run-tool.ts'

export interface KernelFileSystem {
  /** As the kernel names it. */
  kind: string
  options: string
  /** For one whose journal would have to be replayed first: what the disk says without that. */
  asIs?: string
}

/** What a disk says should happen on errors, a panic for example, is not asked. */
const CALM = 'errors=continue'
const ext4: KernelFileSystem = { kind: 'ext4', options: CALM, asIs: `${CALM},noload` }

/** By blkid's names. Anything else is not mounted, whatever the host's kernel would do with it. */
export const kernelFileSystems: ReadonlyMap<string, KernelFileSystem> = new Map([
  ['ext2', { kind: 'ext4', options: CALM }],
  ['ext3', ext4],
  ['ext4', ext4],
  // A chain of backups has the same UUID on every disk.
  ['xfs', { kind: 'xfs', options: 'nouuid', asIs: 'nouuid,norecovery' }],
  // The tree above all subvolumes.
  ['btrfs', { kind: 'btrfs', options: 'subvolid=5', asIs: 'subvolid=5,rescue=nologreplay' }],
  ['vfat', { kind: 'vfat', options: `utf8=1,shortname=mixed,${CALM}` }],
  ['exfat', { kind: 'exfat', options: CALM }],
  ['iso9660', { kind: 'iso9660', options: 'utf8' }],
  ['udf', { kind: 'udf', options: 'utf8' }],
])

const MODPROBE_MS = 30_000

/** Whether this host's kernel has it, loading its module when that is there. */
export async function kernelHas(kind: string): Promise<boolean> {
  if (await isListed(kind)) return true
  try {
    await runTool('modprobe', ['--quiet', '--', `fs-${kind}`], { timeoutMs: MODPROBE_MS })
  } catch (error) {
    // No module, or no modprobe: then the kernel does not have it.
    if (error instanceof HoldfastError && error.code.startsWith('TOOL_')) return false
    throw error
  }
  return isListed(kind)
}

async function isListed(kind: string): Promise<boolean> {
  const lines = (await readFile('/proc/filesystems', 'utf8')).split('\n')
  return lines.some((line) => line.split('\t')[1] === kind)
}
