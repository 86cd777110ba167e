/** A libvirtd of a test's own, see `dev/private-libvirt.ts`, which ends with the test. */
import { onTestFinished } from 'vitest'
import * as own from '../dev/private-libvirt.ts'
import { temporaryFolder } from './temporary-folder.ts'

export type PrivateLibvirt = own.PrivateLibvirt

/** Needs root and `libvirtd`, `virsh`, `qemu-system-x86_64`. Stopped when the test ends, unless `keep` (then by its `stop`). */
export async function startPrivateLibvirt(options: { keep?: boolean; folder?: string } = {}): Promise<PrivateLibvirt> {
  const libvirt = await own.startPrivateLibvirt(options.folder ?? (await temporaryFolder()))
  if (!options.keep) onTestFinished(() => libvirt.stop())
  return libvirt
}
