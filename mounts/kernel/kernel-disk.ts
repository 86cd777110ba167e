/** A backup's disk where the host's kernel can mount what is on it: what the `kernel` and `kernel-nbd` drivers do differently. */
import type { HoldfastError } from '../../domain/errors.ts'

export interface KernelDisk {
  /** Absolute path of the file or block device, as programs inside its mount namespace name it. */
  readonly path: string
  /** The same, as this host's root can open it. */
  readonly device: string
  readonly sizeBytes: number
  /** A tmpfs, as programs inside name it. On the host the folder of this name is empty. */
  readonly folder: string
  /** Who may read the disk: programs that need no more run as this user and group. */
  readonly owner: { uid: number; gid: number }
  /** How the host names something in the folder. */
  hostPath(name: string): string
  /** What to start, instead of a program, so that it runs inside. */
  enter(program: string, args: readonly string[]): [program: string, args: string[]]
  /** Settles with the reason when it is gone although nobody closed it. Never rejects. */
  readonly failed: Promise<HoldfastError>
  /** Waits until it is gone, with the namespace and every mount in it. Who entered leaves first. Idempotent. */
  close(): Promise<void>
}

/** A part of the disk. */
export interface DiskRange {
  offsetBytes: number
  sizeBytes: number
}
