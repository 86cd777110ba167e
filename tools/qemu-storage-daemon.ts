/** `qemu-storage-daemon`: shows a block graph as one read-only file that only its own mount namespace holds. */
import { stat } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError, type JsonObject } from '../domain/errors.ts'
import { startTool, unexpectedExit, type RunningTool } from './run-tool.ts'

const READY_MS = 30_000
const READY_POLL_MS = 5
const STOP_GRACE_MS = 10_000
const NODE_NAME = 'disk'
const PID_FILE = 'exporter.pid'

/**
 * In a namespace of its own, so that nothing of it can be left on the host: the mounts go with the last process inside. `slave`: what the
 * host unmounts is unmounted here too, and no repository's storage is held by us. The pid file comes when the export answers.
 */
const script = `
mount -t tmpfs -o "size=$2,mode=711,nosuid,nodev,noexec" tmpfs "$1" || exit 1
: > "$1/disk"
exec qemu-storage-daemon --blockdev "$3" --export "type=fuse,id=disk,node-name=${NODE_NAME},mountpoint=$1/disk,writable=off,allow-other=on" --pidfile "$1/${PID_FILE}"
`

/** As for qemu-nbd: a buffer per request, which glibc's defaults take from the kernel page by page. */
const memoryKept = { MALLOC_MMAP_THRESHOLD_: '33554432', MALLOC_TRIM_THRESHOLD_: '67108864', MALLOC_ARENA_MAX: '1' }

export interface ExportedFileOptions {
  /** The explicit graph; read-only. */
  blockGraph: JsonObject
  /** An existing folder without commas in its name. Inside, a tmpfs of `tmpfsBytes` lies over it, and the file is `<folder>/disk`. */
  folder: string
  tmpfsBytes: number
  /** Aborts the start only; a running exporter is stopped by its owner. */
  signal?: AbortSignal | undefined
}

/**
 * Starts the exporter and resolves when the file is there. The process's own mounts are below `/proc/<pid>/root`.
 * `TOOL_MISSING`; `TOOL_FAILED` with its words when it ends instead; `TOOL_TIMEOUT` after 30 s; `MOUNT_DRIVER_UNAVAILABLE` when this process may not
 * make mounts.
 */
export async function startFileExport(options: ExportedFileOptions): Promise<RunningTool> {
  const { blockGraph, folder, tmpfsBytes, signal } = options
  signal?.throwIfAborted()
  const graph = JSON.stringify({ ...blockGraph, 'node-name': NODE_NAME })
  const namespace = ['--mount', '--propagation', 'slave', '--', 'sh', '-c', script, 'sh']
  const exporter = startTool('unshare', [...namespace, folder, String(tmpfsBytes), graph], { env: memoryKept })
  try {
    await exported(exporter, options)
    return exporter
  } catch (error) {
    await exporter.stop(STOP_GRACE_MS)
    throw error
  }
}

async function exported(exporter: RunningTool, { folder, signal }: ExportedFileOptions): Promise<void> {
  let ended = false
  void exporter.exited.then(() => (ended = true))
  const deadline = performance.now() + READY_MS
  // The pid file and not the export itself: a stat of that would wait for an exporter that does not answer.
  while (!(await hasContent(`/proc/${exporter.pid}/root${folder}/${PID_FILE}`))) {
    signal?.throwIfAborted()
    if (ended) throw await startFailure(exporter)
    if (performance.now() > deadline) {
      throw new HoldfastError('TOOL_TIMEOUT', `qemu-storage-daemon did not export the disk within ${READY_MS} ms.`, {
        details: { program: 'qemu-storage-daemon', timeoutMs: READY_MS },
      })
    }
    await delay(READY_POLL_MS)
  }
}

async function hasContent(path: string): Promise<boolean> {
  return stat(path).then(
    ({ size }) => size > 0,
    () => false,
  )
}

async function startFailure(exporter: RunningTool): Promise<HoldfastError> {
  const said = exporter.stderrTail()
  const cause = await unexpectedExit(exporter)
  if (said.includes('qemu-storage-daemon: not found')) {
    const program = 'qemu-storage-daemon'
    const message = `The program "${program}" is not installed. Install it (Debian: qemu-system-common).`
    return new HoldfastError('TOOL_MISSING', message, { details: { program }, cause })
  }
  if (/^(unshare|mount):/m.test(said)) {
    return new HoldfastError(
      'MOUNT_DRIVER_UNAVAILABLE',
      'This process may not make mounts of its own, which opening a backup needs. Run the mover as root, in a container with the capability SYS_ADMIN.',
      { details: { said: said.trim().slice(-1_000) }, cause },
    )
  }
  return cause
}
