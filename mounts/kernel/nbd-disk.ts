/**
 * A chain as a network block device of this host's kernel, which one `qemu-nbd` connects and serves. The process holds a mount namespace as a
 * room's exporter does (`../room.ts`): mounts in it, and the device's connection, go with it.
 */
import { access, mkdir, open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { checkChain, qcow2SizeBytes } from '../../disks/chain.ts'
import { HoldfastError, type JsonObject } from '../../domain/errors.ts'
import { qemuNbdArguments } from '../../tools/qemu-nbd.ts'
import { runTool, startTool, unexpectedExit, type RunningTool } from '../../tools/run-tool.ts'
import { heldBy, removeFolder } from '../held-namespace.ts'
import type { MountRequest } from '../restore-mount.ts'
import type { KernelDisk } from './kernel-disk.ts'
import { unavailable } from './require-loop-mounts.ts'

const BLOCK_DEVICES = '/sys/block'
const READY_MS = 30_000
const POLL_MS = 5
const STOP_GRACE_MS = 5_000
const DISCONNECT_MS = 10_000
const SECTOR_BYTES = 512

/** `slave`: what the host unmounts is unmounted here too, and no repository's storage is held by us. */
const script = `
mount -t tmpfs -o size=4m,mode=711,nosuid,nodev,noexec tmpfs "$1" || exit 1
shift
exec qemu-nbd "$@"
`

export interface NbdDiskOptions extends Pick<MountRequest, 'links' | 'checkChain'> {
  /** Absolute path; made here, and removed in the end. */
  folder: string
}

/** Devices that this process is about to connect. */
const claimed = new Set<string>()

/**
 * Connects the chain to a free `/dev/nbd*`. The errors of `checkChain`, `TOOL_MISSING`, `TOOL_FAILED`, `TOOL_TIMEOUT`; `MOUNT_DRIVER_UNAVAILABLE` when
 * no device is there, or none is free. On failure or abort nothing is left.
 */
export async function openNbdDisk(options: NbdDiskOptions, signal?: AbortSignal): Promise<KernelDisk> {
  signal?.throwIfAborted()
  await requireDevices()
  const { links, folder } = options
  const blockGraph = await (options.checkChain ?? checkChain)(links)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  try {
    return await connectFree(blockGraph, { links, folder }, signal)
  } catch (error) {
    await removeFolder(folder)
    throw error
  }
}

async function connectFree(blockGraph: JsonObject, { links, folder }: NbdDiskOptions, signal?: AbortSignal): Promise<KernelDisk> {
  const name = await claimFree()
  try {
    const server = startServer(name, folder, blockGraph)
    const sizeBytes = qcow2SizeBytes(links.at(-1)?.disk.size_bytes ?? 0)
    await connected(server, { name, sizeBytes, signal }).catch(async (error: unknown) => {
      await disconnect(server, name, await ownClientOf(server, name))
      throw error
    })
    return diskOf(server, { name, folder, sizeBytes })
  } finally {
    claimed.delete(name)
  }
}

async function requireDevices(): Promise<string[]> {
  const names = (await readdir(BLOCK_DEVICES)).filter((name) => /^nbd\d+$/.test(name))
  if (names.length > 0) return names
  throw unavailable('kernel-nbd', 'this host has no network block devices: load the kernel module "nbd"')
}

async function claimFree(): Promise<string> {
  const names = await requireDevices()
  for (const name of names.toSorted((one, other) => Number(one.slice(3)) - Number(other.slice(3)))) {
    if (claimed.has(name) || (await isTaken(name))) continue
    // No await in between: two callers would take the same.
    if (claimed.has(name)) continue
    claimed.add(name)
    return name
  }
  throw unavailable('kernel-nbd', `all ${names.length} network block devices are in use (the parameter nbds_max makes more)`)
}

async function isTaken(name: string): Promise<boolean> {
  return (await clientOf(name)) !== null || (await sizeOf(name)) > 0
}

async function sizeOf(name: string): Promise<number> {
  const sectors = await readFile(join(BLOCK_DEVICES, name, 'size'), 'utf8')
  return Number(sectors) * SECTOR_BYTES
}

function startServer(name: string, folder: string, blockGraph: JsonObject): RunningTool {
  const serving = qemuNbdArguments({
    blockGraph,
    socketPath: join(folder, 'nbd.sock'),
    exportName: '',
    readOnly: true,
    connections: 1,
    cache: 'writeback',
    aio: 'threads',
  })
  // Verbose: it would go into the background otherwise, where nobody ends it with us.
  const args = [folder, `--connect=/dev/${name}`, '--verbose', ...serving]
  return startTool('unshare', ['--mount', '--propagation', 'slave', '--', 'sh', '-c', script, 'sh', ...args])
}

interface Connection {
  name: string
  sizeBytes: number
  signal: AbortSignal | undefined
}

async function connected(server: RunningTool, { name, sizeBytes, signal }: Connection): Promise<void> {
  let ended = false
  void server.exited.then(() => (ended = true))
  const deadline = performance.now() + READY_MS
  // The kernel tells nobody: its size is what appears last.
  while ((await sizeOf(name)) !== sizeBytes || !(await canRead(name))) {
    signal?.throwIfAborted()
    if (ended) throw await unexpectedExit(server)
    if (performance.now() > deadline) {
      throw new HoldfastError('TOOL_TIMEOUT', `qemu-nbd did not connect /dev/${name} within ${READY_MS} ms.`, {
        details: { program: 'qemu-nbd', device: `/dev/${name}`, timeoutMs: READY_MS },
      })
    }
    await delay(POLL_MS)
  }
}

async function canRead(name: string): Promise<boolean> {
  const file = await open(`/dev/${name}`, 'r').catch(() => null)
  if (!file) return false
  try {
    return (await file.read(Buffer.alloc(SECTOR_BYTES), 0, SECTOR_BYTES, 0)).bytesRead === SECTOR_BYTES
  } catch {
    // Not connected yet.
    return false
  } finally {
    await file.close()
  }
}

function diskOf(
  server: RunningTool,
  { name, folder, sizeBytes }: { name: string; folder: string; sizeBytes: number },
): KernelDisk {
  // Found once: another time the server is gone, and the device may be another program's.
  let client: Promise<string | null> | null = null
  const end = async (): Promise<void> => disconnect(server, name, await (client ??= ownClientOf(server, name)))
  const device = `/dev/${name}`
  // Block devices are root's.
  return { ...heldBy(server, folder, end), path: device, device, sizeBytes, owner: { uid: 0, gid: 0 } }
}

/** The device first, so that the kernel waits for nobody; then whoever served it, and with it what is mounted. */
async function disconnect(server: RunningTool, name: string, client: string | null): Promise<void> {
  if (client !== null && (await clientOf(name)) === client) {
    await runTool('qemu-nbd', ['--disconnect', `/dev/${name}`], { timeoutMs: DISCONNECT_MS }).catch((error: unknown) => {
      // The end of the server disconnects it too. What matters is looked at below.
      if (!(error instanceof HoldfastError)) throw error
    })
  }
  await server.stop(STOP_GRACE_MS)
  if (client === null) return
  const deadline = performance.now() + DISCONNECT_MS
  while ((await clientOf(name)) === client) {
    if (performance.now() > deadline) {
      throw new HoldfastError('TOOL_TIMEOUT', `/dev/${name} is still connected ${DISCONNECT_MS} ms after its server was ended.`, {
        details: { device: `/dev/${name}`, timeoutMs: DISCONNECT_MS },
      })
    }
    await delay(POLL_MS)
  }
}

/** `null` also when another program was faster: then the device is its own. */
async function ownClientOf(server: RunningTool, name: string): Promise<string | null> {
  const client = await clientOf(name)
  return client !== null && (await isThread(server.pid, client)) ? client : null
}

/** Id of the thread that the kernel keeps a device's connection for; `null` while it has none. */
async function clientOf(name: string): Promise<string | null> {
  const text = await readFile(join(BLOCK_DEVICES, name, 'pid'), 'utf8').catch(() => null)
  return text === null ? null : text.trim()
}

async function isThread(pid: number, thread: string): Promise<boolean> {
  return access(`/proc/${pid}/task/${thread}`).then(
    () => true,
    () => false,
  )
}
