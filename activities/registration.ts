/** Looking at VMs where they are, and recording them. */
import { cancellationSignal } from '@temporalio/activity'
import type { Catalog } from '../db/client.ts'
import { insertVm } from '../db/queries/registration.ts'
import type { VmDescription } from '../sources/source.ts'
import type { RegisterVmRequest } from '../temporal/operations.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'

export interface RegistrationActivities {
  /** `VM_EXISTS`. Idempotent by context id. */
  recordVm(input: RegisterVmRequest & { description: VmDescription }): Promise<void>
}

/** Steps of the control worker: the catalog's side. */
export function createRegistrationActivities({ catalog }: { catalog: Catalog }): RegistrationActivities {
  return guarded({
    async recordVm({ description, ...vm }: RegisterVmRequest & { description: VmDescription }): Promise<void> {
      await insertVm(catalog, { ...vm, ...description })
    },
  })
}

export interface InspectionActivities {
  /** `SOURCE_*`. Changes nothing. */
  describeVm(input: RegisterVmRequest): Promise<VmDescription>
}

/** Steps of a data host: what is really there. */
export function createInspectionActivities({ sourceOf }: HostDependencies): InspectionActivities {
  return guarded({
    async describeVm({ sourceType, config }: RegisterVmRequest): Promise<VmDescription> {
      const source = await sourceOf({ source_type: sourceType, source_id: null })
      return source.describeVm(config, { signal: cancellationSignal() })
    },
  })
}
