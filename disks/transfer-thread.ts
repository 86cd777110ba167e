/** Entry of the worker thread that copies one disk. */
import { serveThread } from './disk-thread.ts'
import { whileStaging } from './staging-failure.ts'
import { copyDisk, type CopyProgress } from './transfer-copy.ts'
import type { CopyTask } from './transfer-parts.ts'

export interface CopyWork {
  input: CopyTask
  result: CopyProgress
  report: CopyProgress
}

await serveThread<CopyWork>((task, { signal, report }) => whileStaging(task.diskIndex, () => copyDisk(task, signal, report)))
