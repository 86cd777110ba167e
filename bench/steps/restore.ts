/** Restores one disk to a file. */
import { restoreDiskTo } from '../../disks/restore.ts'
import { stepArgument } from './step-input.ts'
import type { ReadStep } from './step-input.ts'

const step: ReadStep = JSON.parse(stepArgument)
const result = await restoreDiskTo(
  {
    restoreId: 'bench',
    links: step.links,
    targetPath: step.targetPath,
    targetFormat: step.targetFormat ?? 'raw',
    runFolder: step.runFolder,
    checkpointIntervalMs: 5_000,
    checkpointIntervalBytes: 1024 ** 3,
  },
  { signal: new AbortController().signal, onProgress: () => {} },
)
console.log(JSON.stringify(result))
