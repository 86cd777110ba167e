/** Real NBD servers for tests: each listens on a unix socket in a folder of the running test and ends with it. */
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { onTestFinished, vi } from 'vitest'
import { runTool, startTool, type RunningTool } from '../tools/run-tool.ts'
import { temporaryFolder } from './temporary-folder.ts'

export interface RunningServer {
  endpoint: { type: 'unix'; path: string; exportName: string }
  /** The same as a URI for nbdcopy and nbdinfo. */
  uri: string
  tool: RunningTool
}

const PROGRAM_TIMEOUT_MS = 60_000

/** Runs one of the programs that serve as oracles, or that prepare images; resolves with what it printed. */
export async function output(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await runTool(program, args, { timeoutMs: PROGRAM_TIMEOUT_MS })
  return stdout
}

/** `nbdkit` with these arguments (filters, plugin, their settings). */
export async function startNbdkit(...args: string[]): Promise<RunningServer> {
  return listening('', (socketPath, pidPath) =>
    startTool('nbdkit', ['--foreground', '--unix', socketPath, '--pidfile', pidPath, ...args]),
  )
}

/** `qemu-nbd` with these arguments, as an administrator would start it by hand. */
export async function startPlainQemuNbd(...args: string[]): Promise<RunningServer> {
  return listening('', (socketPath, pidPath) =>
    startTool('qemu-nbd', ['--persistent', '--socket', socketPath, '--pid-file', pidPath, ...args]),
  )
}

/** `qemu-storage-daemon` exporting one QCOW2 image as `disk`. */
export async function startStorageDaemon(imagePath: string, options: { writable: boolean }): Promise<RunningServer> {
  return listening('disk', (socketPath, pidPath) =>
    startTool('qemu-storage-daemon', [
      '--blockdev',
      `driver=file,node-name=file,filename=${imagePath},discard=unmap`,
      '--blockdev',
      'driver=qcow2,node-name=disk,file=file,discard=unmap',
      '--nbd-server',
      `addr.type=unix,addr.path=${socketPath},max-connections=8`,
      '--export',
      `type=nbd,id=export,node-name=disk,name=disk,writable=${options.writable ? 'on' : 'off'}`,
      '--pidfile',
      pidPath,
    ]),
  )
}

async function listening(
  exportName: string,
  start: (socketPath: string, pidPath: string) => RunningTool,
): Promise<RunningServer> {
  const folder = await temporaryFolder()
  const [socketPath, pidPath] = [join(folder, 'nbd.sock'), join(folder, 'pid')]
  const tool = start(socketPath, pidPath)
  onTestFinished(() => tool.stop(5_000))
  let ended = false
  void tool.exited.then(() => (ended = true))
  // All three write their pid file when they listen. Waiting ends early when the program does, so that its words are seen.
  await vi.waitFor(() => (ended ? Promise.resolve() : access(pidPath)), { timeout: 60_000, interval: 5 })
  if (ended) throw new Error(`${tool.program} did not start: ${tool.stderrTail()}`)
  return { endpoint: { type: 'unix', path: socketPath, exportName }, uri: `nbd+unix:///${exportName}?socket=${socketPath}`, tool }
}
