/**
 * Ends a sandbox to its last process. The one that we started is bwrap, which goes at once; the first process of the sandbox's own process namespace is its child,
 * and goes when all others there are gone.
 */
import { readFile } from 'node:fs/promises'
import { setImmediate, setTimeout as delay } from 'node:timers/promises'
import type { RunningTool } from '../../tools/run-tool.ts'

const STOP_GRACE_MS = 2_000
/** One that waits for a repository which does not answer can be killed no sooner than that answers. */
const GONE_MS = 10_000
const GONE_POLL_MS = 5

const firstProcesses = new WeakMap<RunningTool, readonly number[]>()

/** While it runs: afterwards nobody knows whose child the first process was. */
export async function rememberSandbox(kernel: RunningTool): Promise<void> {
  const children = await readFile(`/proc/${kernel.pid}/task/${kernel.pid}/children`, 'latin1').catch(() => '')
  const found = children.split(' ').filter((id) => id !== '')
  if (found.length > 0) firstProcesses.set(kernel, found.map(Number))
}

/** Waits until nothing of it runs, for ten seconds at most. */
export async function endSandbox(kernel: RunningTool): Promise<void> {
  const isOver = await Promise.race([kernel.exited.then(() => true), setImmediate(false)])
  // Nobody listens any more, and a full pipe would hold up whoever writes.
  kernel.channel?.output.resume()
  if (!isOver) await killInside(kernel)
  const stopping = kernel.stop(STOP_GRACE_MS)
  if (!isOver) send(kernel.pid, 'SIGCONT')
  await stopping
  const deadline = performance.now() + GONE_MS
  for (const pid of firstProcesses.get(kernel) ?? []) {
    while (/^[^ZX]$/.test(await stateOf(pid)) && performance.now() < deadline) await delay(GONE_POLL_MS)
  }
}

/** Held while we look, because a first process whose bwrap ends while it is being made would wait for that without end. */
async function killInside(kernel: RunningTool): Promise<void> {
  send(kernel.pid, 'SIGSTOP')
  const deadline = performance.now() + STOP_GRACE_MS
  while (/^[^TZX]$/.test(await stateOf(kernel.pid)) && performance.now() < deadline) await delay(1)
  await rememberSandbox(kernel)
  for (const pid of firstProcesses.get(kernel) ?? []) send(pid, 'SIGKILL')
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It is gone already, as it should be.
  }
}

/** As `/proc` tells it, one letter; empty when it is gone. Z and X only wait for their parent to take note. */
async function stateOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '')
  return /\) ([A-Z])/i.exec(stat)?.[1] ?? ''
}
