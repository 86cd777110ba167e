/** Writing the disks of a VM, a few side by side, all or nothing. */
import { CancellationScope } from '@temporalio/workflow'

/** More would share the bandwidth of one repository and one target. */
const SIDE_BY_SIDE = 2

/** A disk that fails stops the others. Whatever happens, this ends only when none is being written any more. */
export async function restoreDisks<Disk>(disks: readonly Disk[], restore: (disk: Disk) => Promise<void>): Promise<void> {
  const scope = new CancellationScope()
  const waiting = [...disks]
  const lane = async (): Promise<void> => {
    for (let disk = waiting.shift(); disk !== undefined; disk = waiting.shift()) await restore(disk)
  }
  const lanes = Array.from({ length: SIDE_BY_SIDE }, () => scope.run(lane))
  try {
    await Promise.all(lanes)
  } catch (error) {
    waiting.length = 0
    scope.cancel()
    throw error
  } finally {
    await CancellationScope.nonCancellable(() => Promise.allSettled(lanes))
  }
}
