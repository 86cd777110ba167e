/** What a restore makes. */

/** `file`: one disk as a file; `libvirt`: a new VM; `original`: the VM's own disks, overwritten. */
export const restoreTargets = ['file', 'libvirt', 'original'] as const
export type RestoreTarget = (typeof restoreTargets)[number]

/** The VM that a restore of a whole VM makes or overwrites. Kept in the catalog, and travels through histories. */
export type VmTarget =
  | {
      type: 'libvirt'
      /** The connection to the hypervisor. */
      sourceId: string
      /** Of the new VM. */
      vmName: string
      /** On the hypervisor's host. */
      diskFolder: string
      connectNetwork: boolean
      start: boolean
    }
  | { type: 'original'; sourceId: string; vmName: string; vmContextId: string }

/** The disk of a VM restore is a restore of its own, with its own progress and its own lock. */
export function diskRestoreId(restoreId: string, diskIndex: number): string {
  return `${restoreId}/disk-${diskIndex}`
}
