/**
 * Shares that Holdfast mounts by itself: what is to be mounted, by whom, and what the kernel says is mounted.
 * Nothing here touches a file of a share: a dead one must not be able to hold whoever asks.
 */

/** A share as `mount(8)` needs it. */
export interface Share {
  fileSystem: 'nfs' | 'cifs'
  /** `server:/export` or `//server/share`. */
  source: string
  /** Checked, each one option; ours and the administrator's. No secret. */
  options: string[]
  /** Handed over through a file descriptor. `null`: none is needed. */
  password: string | null
}

/** A share as its configuration says: the password is still sealed. */
export interface SealedShare extends Omit<Share, 'password'> {
  credentialsId: string | null
}

export interface MountedShare {
  /** As the kernel calls it: `nfs4`, `cifs` … */
  fileSystem: string
  source: string
}

/** The one who mounts: `mount(8)` and `umount(8)`, or a test's own. */
export interface Mounter {
  /**
   * Mounts; the mount point exists. `CONNECTION_FAILED` (no answer, unknown host, no such share), `REPO_AUTHENTICATION_FAILED`, `REPO_INVALID`
   * (refused option), `TOOL_MISSING` (with the Debian package). On abort or failure nothing is mounted.
   */
  mount(share: Share, mountPoint: string, options: { signal?: AbortSignal | undefined }): Promise<void>
  /** `lazy`: out of sight at once, for a share that does not answer. Nothing when nothing is mounted. `REPO_BUSY` while somebody uses it. */
  unmount(mountPoint: string, options: { lazy: boolean }): Promise<void>
  /** From the kernel's own list (`/proc/self/mountinfo`). */
  mounted(mountPoint: string): Promise<MountedShare | null>
}
