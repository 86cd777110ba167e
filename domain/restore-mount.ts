/** Restore mounts: a backup's disk opened for reading its files, under a lease. */

export const driverNames = ['user-mode-linux', 'kernel', 'kernel-nbd'] as const
/**
 * `user-mode-linux` (the default): a kernel in an unprivileged process. `kernel`: loop mounts in the host's kernel, which an administrator
 * turns on. `kernel-nbd`: the same through `/dev/nbd*`, where the host has them.
 */
export type DriverName = (typeof driverNames)[number]

/**
 * `readable`: its files can be read. `encrypted`: LUKS, BitLocker. `swap`. `member`: part of a RAID array or volume group; what that holds
 * is listed by itself. `damaged`: a file system that cannot be opened. `unknown`: nothing that the driver knows.
 */
export type VolumeState = 'readable' | 'encrypted' | 'swap' | 'member' | 'damaged' | 'unknown'

/** Something on a disk that holds, or could hold, a file system. */
export interface Volume {
  /** One path component of `A-Z a-z 0-9 . _ + -`, unique on the disk: `disk` (no partitions), `partition-1`, `md0`, `md0p1`, `vg0-root` (device-mapper's name). */
  id: string
  state: VolumeState
  /** As blkid names it: `ext4`, `ntfs`, `vfat`, `crypto_LUKS`, `LVM2_member` …; empty when unknown. */
  fileSystem: string
  label: string
  uuid: string
  sizeBytes: number
  /** For people, when there is something to know: why it cannot be read, or what may be missing. Empty otherwise. */
  note: string
}

export const mountStates = ['mounting', 'mounted', 'unmounting'] as const
/** `mounting` also while a mount that was interrupted is being opened again. When it is unmounted its row is gone. */
export type MountState = (typeof mountStates)[number]

/** A mount ends when nobody has read from it for a while, and at the latest after its absolute maximum. Times in milliseconds since 1970. */
export interface Lease {
  startedAt: number
  /** How long it lasts after the last access or extension. */
  idleMs: number
  /** How long it lasts at most, whatever happens. */
  maximumMs: number
}

/** When the lease ends, if nothing happens after `lastUsedAt` (the last access or extension). */
export function leaseEnd({ startedAt, idleMs, maximumMs }: Lease, lastUsedAt: number): number {
  return Math.min(lastUsedAt + idleMs, startedAt + maximumMs)
}
