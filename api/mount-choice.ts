/** Which restore mount a request means, and whether files can be read from it. */
import { findRestoreMount } from '../db/queries/restore-mounts.ts'
import type { RestoreMountRow } from '../db/queries/restore-mounts.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { ApiDependencies } from './dependencies.ts'

type Reads = Pick<ApiDependencies, 'catalog'>

/** In whatever state. `MOUNT_NOT_FOUND`. */
export async function mountOf({ catalog }: Reads, mountId: string): Promise<RestoreMountRow> {
  return (await findRestoreMount(catalog, mountId)) ?? refuseUnknown(mountId)
}

/** One that files are read from. `MOUNT_NOT_FOUND`, also while it is being unmounted; `MOUNT_NOT_READY` while it is being opened. */
export async function readyMountOf(reads: Reads, mountId: string): Promise<RestoreMountRow> {
  const mount = await mountOf(reads, mountId)
  if (mount.status === 'unmounting') refuseUnknown(mountId)
  if (mount.status === 'mounting') {
    throw new HoldfastError('MOUNT_NOT_READY', 'This mount is being opened: try again in a few seconds.', {
      details: { mount_id: mountId, status: mount.status },
    })
  }
  return mount
}

export function refuseUnknown(mountId: string): never {
  throw new HoldfastError('MOUNT_NOT_FOUND', 'There is no such mount. It may have expired: mount the backup again.', {
    details: { mount_id: mountId },
  })
}
