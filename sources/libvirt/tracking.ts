/** What can be told of a domain's changes since its parent's checkpoints, whether it runs or is shut off. */
import type { Tracking } from '../../domain/chain.ts'
import { listCheckpoints } from './checkpoints.ts'
import type { DomainContext } from './domain-context.ts'
import { exchangedDisks } from './exchanged-disks.ts'
import type { IncludedDisk } from './included-disks.ts'
import { untracked } from './untracked.ts'

/** See {@link Source.trackingSince}. `tellsBitmap` is asked only about disks whose checkpoint libvirt knows, and was made of that disk. */
export async function trackingSince(
  context: DomainContext,
  changeIds: Record<string, string | null>,
  tellsBitmap: (disk: IncludedDisk, changeId: string) => Promise<Tracking>,
  options: { signal?: AbortSignal | undefined },
): Promise<Record<string, Tracking>> {
  const known = new Set(await listCheckpoints(context, options))
  const exchanged = await exchangedDisks(context, changeIds, options)
  const tell = async (disk: IncludedDisk, changeId: string | null): Promise<Tracking> => {
    const reason = untracked(context, disk) ?? exchanged.get(disk.target)
    if (reason) return reason
    if (changeId === null) return { state: 'untracked', detail: 'the parent recorded no point to start from' }
    return known.has(changeId) ? tellsBitmap(disk, changeId) : checkpointMissing(changeId)
  }
  const answers: Record<string, Tracking> = {}
  for (const disk of context.included) {
    const changeId = changeIds[disk.target]
    if (changeId !== undefined) answers[disk.target] = await tell(disk, changeId)
  }
  return answers
}

function checkpointMissing(changeId: string): Tracking {
  const detail = `libvirt no longer knows the checkpoint ${changeId}: the VM was reverted, moved, or another program removed it`
  return { state: 'lost', fullReason: 'checkpoint_missing', detail }
}
