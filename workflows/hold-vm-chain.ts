/**
 * Holds the lock on a VM's chain for other work: its id is that of the VM's backups, so none begins, and no backup is deleted, while it
 * runs. Started as a child whose end the parent decides; when the parent is gone, so is the lock.
 */
import { condition, defineSignal, setHandler } from '@temporalio/workflow'

export const releaseSignal = defineSignal('release')

export async function holdVmChain(): Promise<void> {
  let released = false
  setHandler(releaseSignal, () => void (released = true))
  await condition(() => released)
}
