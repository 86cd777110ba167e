/**
 * A folder passed through FUSE that fails as it is told, as a share does: `fault-file-system.py` in a process of its own, so that what hangs in it
 * hangs nobody here. The folder behind it can be looked at meanwhile.
 */
import { access, mkdir, rm, stat } from 'node:fs/promises'
import { once } from 'node:events'
import { connect } from 'node:net'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, vi } from 'vitest'
import { runTool, startTool } from '../tools/run-tool.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

/** What happens to operations that it strikes; the first of a list that does. */
export interface Fault {
  /** FUSE's names (`write`, `getattr`, `fsync` …), `reads`, `writes` or `all` (default). */
  operations?: string[]
  /** Only what has this text in its path. */
  path?: string
  /** Until the list changes; goes on then as if nothing had been. */
  hang?: true
  errno?: 'EIO' | 'ESTALE' | 'ENOSPC' | 'EROFS' | 'EACCES' | 'ENOTCONN'
  delay_ms?: number
}

export interface FaultFileSystem {
  /** Absolute path of what fails. */
  folder: string
  /** Absolute path of the same files without faults. */
  behind: string
  /** In place of the faults that held so far; none: it works. */
  setFaults(...faults: Fault[]): Promise<void>
  /** Ends it: what hangs in it fails then, and ends. Idempotent. */
  close(): Promise<void>
}

/** Brought by `npm run bootstrap -- --tests`. */
const PYTHON = resolve(import.meta.dirname, '../.tools/fuse/bin/python')
const PROGRAM = join(import.meta.dirname, 'fault-file-system.py')

/** For `beforeAll`: `close` belongs into `afterAll`. Needs root or `user_allow_other`. */
export async function createFaultFileSystem(): Promise<FaultFileSystem> {
  await access(PYTHON).catch(() => {
    throw new Error(`${PYTHON} is not there: run "npm run bootstrap -- --tests"`)
  })
  const place = await createTemporaryFolder()
  const [folder, behind, control] = ['shown', 'behind', 'control.sock'].map((name) => join(place.path, name))
  if (folder === undefined || behind === undefined || control === undefined) throw new Error('three names')
  await mkdir(folder)
  await mkdir(behind)
  const program = startTool(PYTHON, [PROGRAM, behind, folder, control])
  const close = async (): Promise<void> => {
    // The kernel ends what waits for it when its process goes.
    await program.stop(0)
    await runTool('umount', ['-l', folder], { timeoutMs: 10_000, allowExitCodes: [32] })
    await rm(place.path, { recursive: true, force: true })
  }
  const own = (await stat(behind)).dev
  try {
    await vi.waitFor(async () => expect((await stat(folder)).dev).not.toBe(own), { timeout: 30_000, interval: 20 })
  } catch (error) {
    await close()
    throw new Error(`The fault file system did not start: ${program.stderrTail()}`, { cause: error })
  }
  return { folder, behind, setFaults: (...faults) => tell(control, faults), close }
}

/** The same for one test. */
export async function faultFileSystem(): Promise<FaultFileSystem> {
  const system = await createFaultFileSystem()
  onTestFinished(() => system.close())
  return system
}

async function tell(control: string, faults: Fault[]): Promise<void> {
  const socket = connect(control)
  socket.write(`${JSON.stringify(faults)}\n`)
  const [answer]: unknown[] = await once(socket, 'data')
  socket.destroy()
  if (String(answer) !== 'ok\n') throw new Error(`The fault file system answered ${String(answer)}`)
}
