/** A backup's disk where the host's kernel can mount what is on it: what the `kernel` and `kernel-nbd` drivers do differently. */
import type { HeldNamespace } from '../held-namespace.ts'

export interface KernelDisk extends HeldNamespace {
  /** Absolute path of the file or block device, as programs inside its mount namespace name it. */
  readonly path: string
  /** The same, as this host's root can open it. */
  readonly device: string
  readonly sizeBytes: number
  /** Who may read the disk: programs that need no more run as this user and group. */
  readonly owner: { uid: number; gid: number }
}

/** A part of the disk. */
export interface DiskRange {
  offsetBytes: number
  sizeBytes: number
}
