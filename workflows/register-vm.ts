/** Looks at a VM's disks where they are, then records the VM. */
import type { VmDescription } from '../sources/source.ts'
import type { RegisterVmRequest } from '../temporal/operations.ts'
import { controlSteps, interactiveHostSteps } from './activity-options.ts'
import { endingWithCode } from './failure.ts'

export interface RegisterVmInput extends RegisterVmRequest {
  heartbeatTimeoutMs: number
}

/** Recorded is what the mover saw. Nothing is recorded when the mover cannot see the disks. */
export async function registerVm(input: RegisterVmInput): Promise<VmDescription> {
  return endingWithCode(async () => {
    const description = await interactiveHostSteps(input).describeVm(input)
    await controlSteps().recordVm({ ...input, description })
    return description
  })
}
