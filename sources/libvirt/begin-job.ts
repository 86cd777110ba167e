/** Beginning a backup job: what is asked of libvirt, and what its refusals mean. */
import { HoldfastError, type ErrorCode } from '../../domain/errors.ts'
import type { SnapshotRequest } from '../source.ts'
import { exportNameOf, newNonce } from './backup-job.ts'
import { backupXml, checkpointXml, type BackupXmlDisk } from './backup-xml.ts'
import { freezeOf } from './consistency.ts'
import type { DomainContext } from './domain-context.ts'
import { runBeginScript, type BegunScript, type FreezeOutcome } from './freeze.ts'
import { checkpointDescription, checkpointName, scratchPath, socketPath } from './names.ts'

/** One job and one checkpoint for all disks. Leaves a job, or nothing that {@link abortJob} and the deletion of the checkpoint would not remove. */
export async function beginJob(
  context: DomainContext,
  request: SnapshotRequest,
  options: { signal?: AbortSignal | undefined },
): Promise<BegunScript> {
  const { connection, uuid, state } = context
  const { backupId } = request
  const socket = socketPath(connection, backupId)
  const [nonce, takenAt] = [newNonce(), new Date()]
  const disks = (outcome: FreezeOutcome): BackupXmlDisk[] =>
    disksOf(context, request, (target) => exportNameOf(target, { nonce, takenAt, outcome }))
  options.signal?.throwIfAborted()
  const begun = await runBeginScript({
    connection,
    uuid,
    freeze: freezeOf(context),
    backupXml: (outcome) => backupXml(socket, disks(outcome)),
    checkpointXml: state.persistent
      ? checkpointXml(checkpointName(backupId), checkpointDescription(connection), disks('frozen'))
      : null,
  })
  if (begun.failure !== null) throw refusal(context, begun.failure)
  options.signal?.throwIfAborted()
  return begun
}

/** Every disk of the domain must be named: libvirt backs up what is not. */
function disksOf(
  { connection, domain, included }: DomainContext,
  { backupId, parentChangeIds }: SnapshotRequest,
  exportName: (target: string) => string,
): BackupXmlDisk[] {
  return domain.disks.map(({ target }) => {
    const disk = included.find((candidate) => candidate.target === target)
    if (!disk) return { target, included: null }
    return {
      target,
      included: {
        exportName: exportName(target),
        scratchPath: scratchPath(connection, backupId, target),
        incrementalFrom: parentChangeIds[target] ?? null,
        keepsBitmaps: disk.keepsBitmaps,
      },
    }
  })
}

const refusals: readonly [RegExp, ErrorCode, string][] = [
  [
    /missing or broken bitmap|checkpoint inconsistent|no domain checkpoint|checkpoint not found/i,
    'SOURCE_CHANGED',
    'The record of changes that this backup was to start from is no longer usable.',
  ],
  [/domain is not running/i, 'SOURCE_CHANGED', 'The VM has stopped meanwhile.'],
  [
    /failed to get domain|domain not found|no domain with matching/i,
    'SOURCE_NOT_FOUND',
    'Discover the VMs of this source again.',
  ],
  [
    /state change lock|another (?:job|backup)|already (?:in progress|running|exists)/i,
    'SOURCE_BUSY',
    'Another operation holds this VM.',
  ],
  [
    /failed to connect|cannot recv data|connection reset|end of file|client socket is closed|disconnected|did not answer in time/i,
    'SOURCE_UNAVAILABLE',
    'libvirt did not answer.',
  ],
  [/no space left/i, 'INSUFFICIENT_STORAGE', 'The scratch folder of the hypervisor is full.'],
  [
    /permission denied|could not open|could not create|failed to create|read-only file system/i,
    'SOURCE_INVALID',
    'QEMU, which runs as a user of its own, must be able to write to the scratch folder of this source connection.',
  ],
]

function refusal({ domain, connection, uuid }: DomainContext, said: string): HoldfastError {
  const details = { uuid, said: said.slice(-1_000), scratch_folder: connection.scratchFolder }
  const known = refusals.find(([words]) => words.test(said))
  const [, code, advice] = known ?? [null, 'TOOL_FAILED' as const, 'See the log of libvirt.']
  return new HoldfastError(code, `libvirt could not begin a backup of "${domain.name}": ${lastWords(said)} ${advice}`, {
    details,
  })
}

function lastWords(said: string): string {
  const last = said.trim().split('\n').at(-1) ?? ''
  return last.replace(/^error:\s*/, '').replace(/\.?$/, '.')
}
