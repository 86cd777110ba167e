/** Processes of this host as they descend from one another. */
import { readdir, readFile } from 'node:fs/promises'

export interface SeenProcess {
  pid: number
  parent: number
  /** The first fifteen characters of the program's name. */
  name: string
  /** Ticks since the host started: with the pid, no other process ever has it. */
  startedAt: string
  commandLine: string
}

/** Its children, their children and so on; parents before children. */
export async function descendantsOf(pid: number): Promise<SeenProcess[]> {
  const all = await allProcesses()
  const found = all.filter((process) => process.parent === pid)
  for (const member of found) found.push(...all.filter((process) => process.parent === member.pid))
  return found
}

/** Those of `processes` that still run. One that has ended and waits to be buried does not. */
export async function stillRunning(processes: readonly SeenProcess[]): Promise<SeenProcess[]> {
  const now = await Promise.all(processes.map(({ pid }) => look(pid)))
  return processes.filter((process, index) => now[index]?.startedAt === process.startedAt)
}

async function allProcesses(): Promise<SeenProcess[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  return (await Promise.all(pids.map(look))).filter((process) => process !== null)
}

/** `null` when it is gone. See proc(5): the name stands in parentheses and may hold anything. */
async function look(pid: number): Promise<SeenProcess | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  const end = stat.lastIndexOf(')')
  const fields = stat.slice(end + 2).split(' ')
  if (end < 0 || fields[0] === 'Z' || fields[0] === 'X') return null
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  const name = stat.slice(stat.indexOf('(') + 1, end)
  return { pid, parent: Number(fields[1]), name, startedAt: fields[19] ?? '', commandLine: commandLine.replaceAll('\0', ' ') }
}
