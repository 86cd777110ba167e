/** Disks whose changes nothing records. */
import type { Tracking } from '../../domain/chain.ts'
import type { DomainContext } from './domain-context.ts'
import { exchangedDisks } from './exchanged-disks.ts'
import type { SnapshotRequest } from '../source.ts'
import type { IncludedDisk } from './included-disks.ts'

/** Why all of a disk must be read and compared; `null` when a checkpoint could tell what changed. */
export function untracked({ state }: Pick<DomainContext, 'state'>, disk: IncludedDisk): Tracking | null {
  const because = (detail: string): Tracking => ({ state: 'untracked', detail })
  if (!disk.keepsBitmaps) return because(`an image of format ${disk.format} cannot record changes; qcow2 can`)
  if (!state.persistent) return because('the VM is transient: libvirt forgets its checkpoints when it stops')
  return null
}

/** The change IDs that something could be told since: the parent can have recorded some of what is another disk by now, or of another kind of VM. */
export async function withoutUntracked(
  context: DomainContext,
  request: SnapshotRequest,
  options: { signal?: AbortSignal | undefined },
): Promise<SnapshotRequest> {
  const { parentChangeIds } = request
  const exchanged = await exchangedDisks(context, parentChangeIds, options)
  const usable = context.included.flatMap((disk): [string, string][] => {
    const changeId = parentChangeIds[disk.target]
    return changeId === undefined || exchanged.has(disk.target) || untracked(context, disk) ? [] : [[disk.target, changeId]]
  })
  return { ...request, parentChangeIds: Object.fromEntries(usable) }
}
