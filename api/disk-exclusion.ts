/** Which disks a VM's backups may leave out. */
import type { VmContext } from '../db/queries/vm-contexts.ts'
import { HoldfastError } from '../domain/errors.ts'
import { excludedDisksOf } from './answers/vm-contexts.ts'

/**
 * `INVALID_REQUEST` for a VM whose source cannot leave disks out, `DISK_NOT_FOUND` for a disk that the VM does not have, `INVALID_REQUEST`
 * when none would be left. `present`: keys of the disks that the catalog shows; those left out so far are not among them.
 */
export function checkExclusion(vm: VmContext, present: readonly string[], excluded: readonly string[]): void {
  if (vm.source_type !== 'libvirt') {
    throw new HoldfastError('INVALID_REQUEST', 'Only VMs of libvirt can leave disks out: register this VM with fewer disks.', {
      details: { vm_context_id: vm.context_id, source_type: vm.source_type },
    })
  }
  const known = new Set([...present, ...excludedDisksOf(vm)])
  const unknown = excluded.filter((key) => !known.has(key))
  if (unknown.length > 0) {
    throw new HoldfastError('DISK_NOT_FOUND', 'The VM has no such disk: name its disks by their keys, or discover it again.', {
      details: { vm_context_id: vm.context_id, unknown_disks: unknown, disks: [...known].toSorted() },
    })
  }
  if (excluded.length > 0 && [...known].every((key) => excluded.includes(key))) {
    throw new HoldfastError('INVALID_REQUEST', 'A backup needs at least one disk: leave one in.', {
      details: { vm_context_id: vm.context_id, disks: [...known].toSorted() },
    })
  }
}
