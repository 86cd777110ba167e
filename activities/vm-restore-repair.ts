/** A VM's restore whose workflow is gone: taken back, or finished when its VM is there or some of its disks are already replaced. */
import { endRestore } from '../db/queries/restore-records.ts'
import type { VmRestoreRecord } from '../db/queries/vm-restore-records.ts'
import type { HostDependencies } from './host-dependencies.ts'
import type { Repair } from './reconciliation.ts'
import { completeVmRestore, discardVmRestore } from './vm-restores.ts'

/** Idempotent. Errors are for the next run: nothing is ended that is not settled. */
export async function settleVmRestore(dependencies: HostDependencies, restore: VmRestoreRecord): Promise<Repair[]> {
  const { catalog } = dependencies
  const { id: restoreId } = restore
  if (restore.status !== 'pending' && restore.status !== 'running') return []
  const isDone = restore.external_id !== null
  if (!isDone && (await discardVmRestore(dependencies, restore)) === 'discarded') {
    const message = 'The workflow of this restore ended without finishing it. What it had written was removed.'
    await endRestore(catalog, { restoreId, state: 'failed', code: 'INTERNAL', message })
    return [
      { kind: 'restore', what: `ended restore ${restoreId} as failed and removed what it had written: its workflow is gone` },
    ]
  }
  await completeVmRestore(dependencies, restore)
  await endRestore(catalog, { restoreId, state: 'completed' })
  return [
    { kind: 'restore', what: `completed restore ${restoreId}: its VM was there, or half replaced, when its workflow ended` },
  ]
}
