/** Where the demo's VM lives: a hypervisor when one is installed, else images that lie still. */
import type { ApiClient } from './api-client.ts'
import type { DemoDisk, DemoVm } from './demo-vm.ts'

export interface VmPlatform {
  /** Makes Holdfast know the VM. Returns what it then knows, a line for people each. */
  register(api: ApiClient, vm: DemoVm): Promise<string[]>
  /** Brings a disk to what its truth holds now; `before`: a raw image of what the disk holds. */
  writeDisk(disk: DemoDisk, before: string): Promise<void>
  /** Whether the VM writes on while it is backed up. */
  readonly live: boolean
  /** After all backups: what they left on the platform that should not be there, a line for people each. */
  leftovers(): Promise<string[]>
  /** Ends the VM. Idempotent. */
  stop(): Promise<void>
}
