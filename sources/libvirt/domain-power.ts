/** Whether a domain has a QEMU process that uses its disks. */
import { HoldfastError } from '../../domain/errors.ts'
import type { LibvirtConnection } from './connection.ts'

type Options = { signal?: AbortSignal | undefined }

/** libvirt's word, `null` when there is no such domain. */
export async function stateOf(connection: LibvirtConnection, uuid: string, options: Options): Promise<string | null> {
  try {
    return (await connection.ask(['domstate', uuid], options)).trim()
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'SOURCE_NOT_FOUND') return null
    throw error
  }
}

/** The error for a domain whose disks are to be replaced and that is not shut off; `null` when it is. */
export async function notStopped(
  connection: LibvirtConnection,
  vm: { uuid: string; name: string },
  options: Options,
): Promise<HoldfastError | null> {
  const state = await stateOf(connection, vm.uuid, options)
  // `crashed`: QEMU is kept (`<on_crash>preserve`) and has the disks open.
  if (state === 'shut off') return null
  if (state === null) {
    return new HoldfastError(
      'SOURCE_NOT_FOUND',
      `The VM "${vm.name}" no longer exists on its hypervisor, so there is nothing to overwrite: restore it as a new VM.`,
      { details: { uuid: vm.uuid } },
    )
  }
  return new HoldfastError('VM_RUNNING', `The VM "${vm.name}" is ${state}: shut it down before its disks are overwritten.`, {
    details: { uuid: vm.uuid, state },
  })
}
