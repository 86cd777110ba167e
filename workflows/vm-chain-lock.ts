/** Keeping backups away from a VM while its disks are replaced. */
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common'
import { ParentClosePolicy, sleep, startChild } from '@temporalio/workflow'
import type { ChildWorkflowHandle } from '@temporalio/workflow'
import { asApplicationFailure } from './failure.ts'
import { holdVmChain, releaseSignal } from './hold-vm-chain.ts'
import { searchAttributesFor } from './search-attributes.ts'

/** What a workflow takes to close after its last visible step. */
const CLOSING_MS = 500
const ATTEMPTS = 3

/** Returns the lock's release. `VM_BUSY` while a backup of the VM runs or is being deleted. */
export async function lockVmChain(work: { vmContextId: string; backupId: string }): Promise<() => Promise<void>> {
  for (let attempt = 1; ; attempt++) {
    try {
      const lock = await startHolding(work)
      return async () => {
        await lock.signal(releaseSignal)
        await lock.result()
      }
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error
      if (attempt === ATTEMPTS) throw busy(work.vmContextId, error)
    }
    await sleep(CLOSING_MS)
  }
}

function startHolding({
  vmContextId,
  backupId,
}: {
  vmContextId: string
  backupId: string
}): Promise<ChildWorkflowHandle<typeof holdVmChain>> {
  return startChild(holdVmChain, {
    workflowId: `vm-chain:${vmContextId}`,
    parentClosePolicy: ParentClosePolicy.TERMINATE,
    typedSearchAttributes: searchAttributesFor({ kind: 'restore', vmContextId, backupId }),
    staticSummary: `A restore overwrites this VM with ${backupId}`,
  })
}

function busy(vmContextId: string, cause: Error): Error {
  const message = 'This VM is being backed up, or one of its backups is being deleted: wait until that has ended, or cancel it.'
  return asApplicationFailure({ code: 'VM_BUSY', message, details: { vm_context_id: vmContextId } }, cause)
}
