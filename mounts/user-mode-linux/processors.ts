/**
 * Which processor each reader runs on. User-Mode Linux traces its own processes, and every switch between the two wakes the other: across processors, and where
 * an idle processor sleeps deeply (virtual machines), that made a start take 6 s instead of 1.8 s. So a reader stays on one; readers take turns at them.
 */
import { readFile } from 'node:fs/promises'

/** Several processes may start readers, each of which would begin with the same processor. */
let turn = process.pid

/** The number of the processor for the next reader: one that this process may use. */
export async function nextProcessor(): Promise<number> {
  const allowed = processorsIn(await readFile('/proc/self/status', 'utf8'))
  return allowed[turn++ % allowed.length] ?? 0
}

/** Of the line `Cpus_allowed_list:	0-2,5` (proc_pid_status(5)). */
export function processorsIn(status: string): number[] {
  const list = /^Cpus_allowed_list:\s*([\d,-]+)$/m.exec(status)?.[1] ?? '0'
  return list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, step) => first + step)
  })
}
