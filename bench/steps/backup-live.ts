/** A disk of a running domain, full or incremental, exactly as a mover does it: freeze, copy, end the snapshot. Prints its result. */
import { transferDisk } from '../../disks/transfer.ts'
import { createSource } from '../../sources/registry.ts'
import { stepArgument } from './step-input.ts'
import type { LiveStep } from './step-input.ts'

const step: LiveStep = JSON.parse(stepArgument)
const stopped = new AbortController()
process.once('SIGTERM', () => stopped.abort(new Error('stopped')))

const connection = { id: 'bench', config: { uri: step.uri, scratch_folder: step.scratchFolder }, credentials: null }
const source = createSource('libvirt', { runFolder: step.runFolder, connection })
const config = { uuid: step.uuid }
const parentChangeIds: Record<string, string> = step.parentChangeId === null ? {} : { vda: step.parentChangeId }
const snapshot = await source.beginSnapshot({ backupId: step.backupId, config, parentChangeIds }, {})
const changeId = snapshot.disks[0]!.changeId!
try {
  const disk = await source.openDisk(config, snapshot, 0, { runFolder: step.runFolder })
  const transferred = await transferDisk(
    {
      source: disk,
      snapshotId: snapshot.id,
      target: {
        folder: step.folder,
        diskIndex: 0,
        sizeBytes: disk.sizeBytes,
        compression: step.compression,
        parent: step.parent === null ? null : { links: step.parent },
      },
      runFolder: step.runFolder,
      rateLimitBytesPerSecond: step.rateLimitBytesPerSecond,
      checkpointIntervalMs: 5_000,
      checkpointIntervalBytes: 1024 ** 3,
    },
    { signal: stopped.signal, onProgress: () => {} },
  )
  await disk.close()
  await source.endSnapshot(config, step.backupId, { outcome: step.outcome, changeIdsInUse: [changeId] }, {})
  console.log(JSON.stringify({ ...transferred, changeId }))
} catch (error) {
  const changeIdsInUse = step.parentChangeId === null ? [] : [step.parentChangeId]
  await source.endSnapshot(config, step.backupId, { outcome: 'abandoned', changeIdsInUse }, {})
  if (!stopped.signal.aborted) throw error
}
