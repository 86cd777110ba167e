/** Which VM a request means. */
import type { Catalog } from '../db/client.ts'
import { findVmContext, findVmContextsByName } from '../db/queries/vm-contexts.ts'
import type { VmContext } from '../db/queries/vm-contexts.ts'
import { HoldfastError } from '../domain/errors.ts'

/** By id, by name, or by both if they agree. `VM_NOT_FOUND`; `VM_NAME_AMBIGUOUS` with the candidates. */
export async function chooseVm(
  catalog: Catalog,
  named: { vm_context_id?: string | undefined; vm_name?: string | undefined },
): Promise<VmContext> {
  const { vm_context_id: contextId, vm_name: vmName } = named
  if (contextId === undefined) return onlyVmOfName(catalog, vmName ?? '')
  const vm = await findVmContext(catalog, contextId)
  if (!vm) throw notFound('vm_context_id', contextId)
  if (vmName !== undefined && vmName !== vm.vm_name) {
    throw new HoldfastError(
      'INVALID_REQUEST',
      `VM context ${contextId} has another name than the one given: name the VM in one way.`,
    )
  }
  return vm
}

/** A path parameter that may be either; an id is never taken for a name as long as such an id exists. */
export async function chooseVmByIdOrName(catalog: Catalog, idOrName: string): Promise<VmContext> {
  return (await findVmContext(catalog, idOrName)) ?? onlyVmOfName(catalog, idOrName)
}

async function onlyVmOfName(catalog: Catalog, vmName: string): Promise<VmContext> {
  const candidates = await findVmContextsByName(catalog, vmName)
  const [vm] = candidates
  if (!vm) throw notFound('vm_name', vmName)
  if (candidates.length === 1) return vm
  throw new HoldfastError('VM_NAME_AMBIGUOUS', `${candidates.length} VMs have this name: name one by its vm_context_id.`, {
    details: {
      vm_name: vmName,
      candidates: candidates.map((candidate) => ({
        vm_context_id: candidate.context_id,
        vm_name: candidate.vm_name,
        source_type: candidate.source_type,
        host_id: candidate.host_id,
        created_at: candidate.created_at.toISOString(),
      })),
    },
  })
}

function notFound(field: string, value: string): HoldfastError {
  return new HoldfastError('VM_NOT_FOUND', 'There is no such VM: GET /vm-contexts lists those that Holdfast knows.', {
    details: { [field]: value },
  })
}
