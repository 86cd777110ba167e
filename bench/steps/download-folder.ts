/** Downloads a folder as an archive through the file service of a fresh mount. Prints what the serving process took of memory for it. */
import { readFile, writeFile } from 'node:fs/promises'
import { memoryOfDescendants } from '../measure.ts'
import { serveMount } from '../mounts/served-mount.ts'
import { stepArgument } from './step-input.ts'
import type { FolderStep, FolderMemory } from './step-input.ts'

const step: FolderStep = JSON.parse(stepArgument)
const served = await serveMount(step)
try {
  // What is loaded with the first request is not the download's.
  await served.get('files', { path: '/' })
  const idleBytes = await memoryOf(served.pid, 'VmRSS')
  // 5: the peak begins anew (proc(5)).
  await writeFile(`/proc/${served.pid}/clear_refs`, '5')
  const began = performance.now()
  const bytes = await served.get('download-directory', { path: `/${step.read ?? ''}`, format: step.format })
  const seconds = (performance.now() - began) / 1_000
  const peakBytes = await memoryOf(served.pid, 'VmHWM')
  const mountBytes = await memoryOfDescendants(served.pid)
  const result: FolderMemory = { idleBytes, peakBytes, mountBytes, archiveBytes: bytes, seconds }
  console.log(JSON.stringify(result))
} finally {
  await served.stop()
}

async function memoryOf(pid: number, what: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`^${what}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024
}
