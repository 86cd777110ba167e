/** Catalog steps of a restore mount's life. */
import type { Catalog } from '../db/client.ts'
import { removePin } from '../db/queries/pins.ts'
import type { Pin } from '../db/queries/pins.ts'
import { deleteRestoreMount, insertRestoreMount, markUnmounting } from '../db/queries/restore-mount-records.ts'
import type { NewRestoreMount } from '../db/queries/restore-mount-records.ts'
import { findRestoreMount, noteMountAccess } from '../db/queries/restore-mounts.ts'
import type { MountAccess } from '../db/queries/restore-mounts.ts'
import { guarded } from './failure.ts'

export interface RestoreMountRecordActivities {
  /** Notes a mount that begins, as `mounting`. `DISK_NOT_FOUND`. Idempotent. */
  recordMount(mount: NewRestoreMount): Promise<void>

  /** When somebody last used it, in milliseconds since 1970; 0 when its row is gone. */
  readMountAccess(mountId: string): Promise<number>

  /** Notes that somebody used it. Never backwards. Idempotent. */
  noteMountAccess(access: MountAccess): Promise<void>

  /** From here on nothing opens it again. Idempotent. */
  recordUnmounting(mountId: string): Promise<void>

  /** Forgets a mount of which nothing is left, with its pin. Idempotent. */
  forgetMount(mount: { mountId: string } & Pin): Promise<void>
}

export function createRestoreMountRecordActivities({ catalog }: { catalog: Catalog }): RestoreMountRecordActivities {
  return guarded({
    async recordMount(mount: NewRestoreMount): Promise<void> {
      await insertRestoreMount(catalog, mount)
    },

    async readMountAccess(mountId: string): Promise<number> {
      const row = await findRestoreMount(catalog, mountId)
      return row?.last_access_at.getTime() ?? 0
    },

    async noteMountAccess(access: MountAccess): Promise<void> {
      await noteMountAccess(catalog, [access])
    },

    async recordUnmounting(mountId: string): Promise<void> {
      await markUnmounting(catalog, mountId)
    },

    async forgetMount({ mountId, backupId, ownerWorkflowId }: { mountId: string } & Pin): Promise<void> {
      await removePin(catalog, { backupId, ownerWorkflowId })
      await deleteRestoreMount(catalog, mountId)
    },
  })
}
