/** Runs one program and says what it cost, from the kernel's own books. */
import { readFile, readdir } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { startTool } from '../tools/run-tool.ts'
import type { RunningTool } from '../tools/run-tool.ts'
import { HoldfastError } from '../domain/errors.ts'

export interface Cost {
  wallSeconds: number
  /** User and system time of the program and of every child it waited for. */
  cpuSeconds: number
  /** Largest sum of resident memory over the program and its descendants, sampled every 50 ms. */
  peakMemoryBytes: number
  output: string
}

const CLOCK_TICKS_PER_SECOND = 100
const STOP_GRACE_MS = 5_000

const running = new Set<RunningTool>()

/** Ends what is being measured: its folders cannot be removed while it writes to them. */
export async function stopMeasuring(): Promise<void> {
  await Promise.all([...running].map((tool) => tool.stop(STOP_GRACE_MS)))
}

/** `INTERNAL` with the end of the program's output when it fails. */
export async function measure(program: string, args: readonly string[], env: Record<string, string> = {}): Promise<Cost> {
  const cpuBefore = await childrenCpuSeconds()
  const started = process.hrtime.bigint()
  let output = ''
  const tool = startTool(program, args, { env, onOutput: (chunk) => (output += chunk) })
  running.add(tool)
  const memory = watchMemory(tool.pid)
  const { exitCode } = await tool.exited
  running.delete(tool)
  const wallSeconds = Number(process.hrtime.bigint() - started) / 1e9
  const peakMemoryBytes = await memory.stop()
  if (exitCode !== 0)
    throw new HoldfastError('INTERNAL', `${program} ${args[0]} ended with ${exitCode}: ${output}${tool.stderrTail()}`)
  return { wallSeconds, cpuSeconds: (await childrenCpuSeconds()) - cpuBefore, peakMemoryBytes, output }
}

/** Fields 16 and 17 of /proc/self/stat: time of all children that were waited for (proc(5)). */
async function childrenCpuSeconds(): Promise<number> {
  const stat = await readFile('/proc/self/stat', 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[13]) + Number(fields[14])) / CLOCK_TICKS_PER_SECOND
}

function watchMemory(pid: number): { stop(): Promise<number> } {
  let peak = 0
  const ended = new AbortController()
  const watch = async (): Promise<void> => {
    while (!ended.signal.aborted) {
      peak = Math.max(peak, await residentBytes(await family(pid)))
      await delay(50)
    }
  }
  const watching = watch()
  return {
    stop: async () => {
      ended.abort()
      await watching
      return peak
    },
  }
}

/** What the descendants of a process take, memory that they share counted once; they share much. */
export async function memoryOfDescendants(pid: number): Promise<number> {
  const members = (await family(pid)).slice(1)
  const told = await Promise.all(members.map((member) => readFile(`/proc/${member}/smaps_rollup`, 'utf8').catch(() => '')))
  // Helpers of User-Mode Linux have one memory together, which the kernel tells of each of them, to the byte.
  return [...new Set(told)].reduce((sum, rollup) => sum + Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024, 0)
}

async function family(root: number): Promise<number[]> {
  const parents = new Map<number, number>()
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '') // The process may just have ended.
    if (stat !== '') parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
  }
  const members = [root]
  for (const member of members) {
    for (const [child, parent] of parents) if (parent === member) members.push(child)
  }
  return members
}

async function residentBytes(pids: readonly number[]): Promise<number> {
  let sum = 0
  for (const pid of pids) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
    sum += Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024
  }
  return sum
}
