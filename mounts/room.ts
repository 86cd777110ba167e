/**
 * A mount's room: a mount namespace in which the chain's newest disk is one read-only file on a small tmpfs, and whatever a driver adds. Everything in it is gone
 * with its last process, however that ended: no mount, loop device or file is left on the host.
 */
import { constants } from 'node:fs'
import { access, chown, mkdir, stat } from 'node:fs/promises'
import { checkChain, qcow2SizeBytes } from '../disks/chain.ts'
import { HoldfastError } from '../domain/errors.ts'
import { startFileExport } from '../tools/qemu-storage-daemon.ts'
import type { RunningTool } from '../tools/run-tool.ts'
import type { MountRequest } from './restore-mount.ts'
import { heldBy, removeFolder, type HeldNamespace } from './held-namespace.ts'

const STOP_GRACE_MS = 5_000

export interface RoomOptions extends Pick<MountRequest, 'links' | 'checkChain'> {
  /** Absolute path; made here, and removed in the end. */
  folder: string
  /** What drivers may put into it. Memory that is used only as it is written. */
  tmpfsBytes: number
  /** User and group who may read the disk besides root. */
  owner: { uid: number; gid: number }
}

export interface Room extends HeldNamespace {
  /** The exporter's, which holds the namespace. */
  readonly pid: number
  /** Absolute path of the disk's file, as this host's root can open it. */
  readonly device: string
  readonly sizeBytes: number
}

/**
 * Opens it, after `checkChain`; its errors (`CORRUPT_CHAIN`, `REPO_UNAVAILABLE`), and `TOOL_MISSING`, `TOOL_FAILED`, `TOOL_TIMEOUT`, `MOUNT_DRIVER_UNAVAILABLE` when
 * this host does not let us. On failure or abort nothing is left.
 */
export async function openRoom(options: RoomOptions, signal?: AbortSignal): Promise<Room> {
  signal?.throwIfAborted()
  const { links, folder, tmpfsBytes } = options
  if (folder.includes(',')) throw new HoldfastError('INVALID_REQUEST', `"${folder}" holds a comma. Choose another HOLDFAST_HOME.`)
  const blockGraph = await (options.checkChain ?? checkChain)(links)
  await requireFuse()
  await mkdir(folder, { recursive: true, mode: 0o700 })
  try {
    const exporter = await startFileExport({ blockGraph, folder, tmpfsBytes, signal })
    const room = roomOf(exporter, folder, qcow2SizeBytes(links.at(-1)?.disk.size_bytes ?? 0))
    await handOver(room, options.owner, signal)
    return room
  } catch (error) {
    await removeFolder(folder)
    throw error
  }
}

function roomOf(exporter: RunningTool, folder: string, sizeBytes: number): Room {
  const held = heldBy(exporter, folder, () => exporter.stop(STOP_GRACE_MS))
  return { ...held, pid: exporter.pid, device: held.hostPath('disk'), sizeBytes }
}

/** Nothing is given away before the file is what the manifest says. */
async function handOver(room: Room, owner: RoomOptions['owner'], signal: AbortSignal | undefined): Promise<void> {
  try {
    const { size } = await stat(room.device)
    if (size !== room.sizeBytes) {
      const details = { foundBytes: size, expectedBytes: room.sizeBytes }
      throw new HoldfastError('TOOL_FAILED', `The exported disk has ${size} bytes instead of ${room.sizeBytes}.`, { details })
    }
    await chown(room.device, owner.uid, owner.gid)
    signal?.throwIfAborted()
  } catch (error) {
    await room.close()
    throw error
  }
}

async function requireFuse(): Promise<void> {
  try {
    await access('/dev/fuse', constants.R_OK | constants.W_OK)
  } catch (error) {
    throw new HoldfastError(
      'MOUNT_DRIVER_UNAVAILABLE',
      'Opening a backup needs /dev/fuse. Load the kernel module "fuse"; in a container, pass the device on (--device /dev/fuse).',
      { cause: error },
    )
  }
}
