/** One disk, full or incremental, exactly as a mover does it. Prints its result. */
import { transferDisk } from '../../disks/transfer.ts'
import { servedDisk, stepArgument } from './step-input.ts'
import type { TransferStep } from './step-input.ts'

const step: TransferStep = JSON.parse(stepArgument)
const result = await transferDisk(
  {
    source: servedDisk(step),
    snapshotId: step.backupId,
    target: {
      folder: step.folder,
      diskIndex: 0,
      sizeBytes: step.sizeBytes,
      compression: step.compression,
      parent: step.parent === null ? null : { links: step.parent },
    },
    runFolder: step.runFolder,
    rateLimitBytesPerSecond: null,
    checkpointIntervalMs: 5_000,
    checkpointIntervalBytes: 1024 ** 3,
  },
  { signal: new AbortController().signal, onProgress: () => {} },
)
console.log(JSON.stringify(result))
