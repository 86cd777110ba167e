/** Mounts a part of a disk inside the disk's namespace: read-only, its journal left alone, its programs and devices dead. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../../domain/errors.ts'
import { runTool, startTool, unexpectedExit, type RunningTool } from '../../tools/run-tool.ts'
import type { KernelFileSystem } from './file-systems.ts'
import type { DiskRange, KernelDisk } from './kernel-disk.ts'

const MOUNT_MS = 120_000
const READY_POLL_MS = 5
const STOP_GRACE_MS = 5_000
const HARMLESS = 'ro,nosuid,nodev,noexec'

export interface MountPlan extends DiskRange {
  disk: KernelDisk
  /** Name below the disk's folder of an empty folder. */
  name: string
  signal?: AbortSignal | undefined
}

/** `recovered`: whole. `as-is`: without what its journal still held. `null`: the kernel does not take it. Nothing is left of what failed. */
export async function mountByKernel(plan: MountPlan, how: KernelFileSystem): Promise<'recovered' | 'as-is' | null> {
  // The loop device is read-only: what needs its journal replayed first refuses.
  if (await tryMount(plan, how.kind, how.options)) return 'recovered'
  if (how.asIs !== undefined && (await tryMount(plan, how.kind, how.asIs))) return 'as-is'
  return null
}

async function tryMount(plan: MountPlan, kind: string, options: string): Promise<boolean> {
  const { disk, name, offsetBytes, sizeBytes, signal } = plan
  const part = `loop,offset=${offsetBytes},sizelimit=${sizeBytes}`
  const all = [HARMLESS, part, options].filter((text) => text !== '').join(',')
  // Without helpers of the file system, and without a record outside the namespace.
  const args = ['--internal-only', '--no-mtab', '--types', kind, '--options', all, disk.path, join(disk.folder, name)]
  const [program, entering] = disk.enter('mount', args)
  try {
    await runTool(program, entering, { timeoutMs: MOUNT_MS, signal })
    return true
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'TOOL_FAILED') return false
    throw error
  }
}

const withLoop = join(import.meta.dirname, 'with-loop.pl')
const ntfsOptions = `${HARMLESS},no_detach,streams_interface=none`

/** The running ntfs-3g, which the caller stops; `null` when it does not take it. `TOOL_MISSING`, `TOOL_TIMEOUT`. */
export async function mountByNtfs3g(plan: MountPlan): Promise<RunningTool | null> {
  const { disk, name, offsetBytes, sizeBytes, signal } = plan
  const ntfs3g = ['ntfs-3g', '-o', ntfsOptions, '{}', join(disk.folder, name)]
  const args = [withLoop, disk.path, String(offsetBytes), String(sizeBytes), ...ntfs3g]
  const tool = startTool(...disk.enter('perl', args))
  try {
    if (await isMounted(tool, disk, name, signal)) return tool
  } catch (error) {
    await tool.stop(STOP_GRACE_MS)
    throw error
  }
  const error = await unexpectedExit(tool)
  if (error.code === 'TOOL_MISSING') throw error
  return null
}

/** False when the program ended instead. There is nothing to wait for but the folder becoming another file system's. */
async function isMounted(tool: RunningTool, disk: KernelDisk, name: string, signal: AbortSignal | undefined): Promise<boolean> {
  let ended = false
  void tool.exited.then(() => (ended = true))
  const deadline = performance.now() + MOUNT_MS
  const around = (await stat(disk.hostPath(''))).dev
  while ((await stat(disk.hostPath(name))).dev === around) {
    signal?.throwIfAborted()
    if (ended) return false
    if (performance.now() > deadline) {
      throw new HoldfastError('TOOL_TIMEOUT', `${tool.program} did not mount the file system within ${MOUNT_MS} ms.`, {
        details: { program: tool.program, timeoutMs: MOUNT_MS },
      })
    }
    await delay(READY_POLL_MS)
  }
  return true
}
