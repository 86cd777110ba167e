/** What may be said to and asked of a mount's workflow. Apart from the handlers, so that clients need no workflow code. */
import { defineQuery, defineUpdate } from '@temporalio/workflow'
import type { MountState } from '../domain/restore-mount.ts'

/** RFC 3339: when the mount ends, if nobody uses it from now on. */
export interface MountEnd {
  expiresAt: string
}

export interface MountLease extends MountEnd {
  state: MountState
  startedAt: string
  /** As far as the workflow knows: accesses are read when the lease would end. */
  lastUsedAt: string
}

/**
 * Answers when the disk is mounted; fails with the code of what kept it from being, `CANCELLED` when it was released meanwhile. Opening what is open
 * begins the idle time anew. `MOUNT_NOT_READY` while it is being unmounted: wait for the workflow's end, then open again.
 */
export const openUpdate = defineUpdate<MountEnd>('open')

/** Begins the idle time anew. `MOUNT_NOT_FOUND` while it is being unmounted. */
export const extendUpdate = defineUpdate<MountEnd>('extend')

/** Ends the lease and answers when nothing of the mount is left. */
export const releaseUpdate = defineUpdate('release')

export const leaseQuery = defineQuery<MountLease>('lease')
