/**
 * virtnbdbackup (Debian's package, run as a program), the tool that an administrator of libvirt would take otherwise. What it writes is synced,
 * as what we write is.
 */
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { LiveDomain } from '../dev/live-domain.ts'
import { libvirtObstacle } from '../dev/private-libvirt.ts'
import type { PrivateLibvirt } from '../dev/private-libvirt.ts'
import { HoldfastError } from '../domain/errors.ts'
import { runTool } from '../tools/run-tool.ts'
import { measure } from './measure.ts'
import type { Cost } from './measure.ts'

/** Why it cannot be measured here, for people; `null` when it can. Our libvirtd and the disks go below `folders`. */
export async function virtnbdbackupObstacle(...folders: string[]): Promise<string | null> {
  for (const folder of folders) {
    const obstacle = await libvirtObstacle(folder)
    if (obstacle !== null) return obstacle
  }
  try {
    await runTool('virtnbdbackup', ['--version'], { timeoutMs: 30_000 })
    return null
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'TOOL_MISSING') return 'virtnbdbackup is not installed'
    throw error
  }
}

export interface VirtnbdbackupOptions {
  libvirt: PrivateLibvirt
  domain: LiveDomain
  /** Where it keeps the backup; `full` begins it anew. */
  folder: string
  scratchFolder: string
  level: 'full' | 'inc'
  /** `lz4`, its only compression, or none, its default. */
  compress: boolean
}

/** One disk has one worker; the default output, a thin stream, is its fastest. */
export async function virtnbdbackup(options: VirtnbdbackupOptions): Promise<Cost> {
  const { libvirt, domain, folder, scratchFolder, level, compress } = options
  if (level === 'full') await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  const words = [
    '-U',
    uriOf(libvirt),
    '-d',
    domain.name,
    '-l',
    level,
    '-S',
    scratchFolder,
    '-n',
    '-o',
    folder,
    ...(compress ? ['-z'] : []),
  ]
  return measure('sh', ['-ec', 'folder=$1; shift; virtnbdbackup "$@"; sync "$folder"/*.data', 'sh', folder, ...words])
}

/** All disks at the newest point, as QCOW2. Returns the first one's path with what it cost. */
export async function virtnbdrestore(
  libvirt: PrivateLibvirt,
  folder: string,
  target: string,
): Promise<{ cost: Cost; path: string }> {
  await rm(target, { recursive: true, force: true })
  await mkdir(target, { recursive: true })
  const words = ['-U', uriOf(libvirt), '-n', '-i', folder, '-o', target, '-L', join(target, 'restore.log')]
  const script = 'target=$1; shift; virtnbdrestore "$@"; sync "$target"/*'
  const cost = await measure('sh', ['-ec', script, 'sh', target, ...words])
  const image = (await readdir(target)).find((name) => name.endsWith('.qcow2') || name === 'vda')
  return { cost, path: join(target, image ?? '') }
}

/** It takes every URI with a plus sign for a remote one. */
function uriOf(libvirt: PrivateLibvirt): string {
  return libvirt.uri.replace('qemu+unix:', 'qemu:')
}

export async function storedBytes(folder: string, ending: string): Promise<number> {
  let sum = 0
  for (const name of await readdir(folder)) if (name.endsWith(ending)) sum += (await stat(join(folder, name))).size
  return sum
}
