/** The demo's VM without a hypervisor: a raw image and a QCOW2 that nobody writes to while they are backed up. */
import { rm } from 'node:fs/promises'
import { z } from 'zod'
import { runTool } from '../../tools/run-tool.ts'
import type { DemoVm } from './demo-vm.ts'
import type { VmPlatform } from './vm-platform.ts'

/** Disk 0 is its own truth; disk 1 is made of it. */
export async function startImagePlatform(vm: DemoVm): Promise<VmPlatform> {
  const images = vm.disks.map((disk) => ({
    path: disk.index === 0 ? disk.truth : disk.truth.replace(/\.raw$/, '.qcow2'),
    format: disk.index === 0 ? 'raw' : 'qcow2',
  }))
  const platform: VmPlatform = {
    live: false,
    async register(api) {
      await api.call('POST', '/vm-contexts', z.object({ success: z.literal(true) }), {
        vm_name: vm.name,
        source_type: 'disk-image',
        disks: images,
      })
      return images.map(({ path, format }) => `disk image ${path}, ${format}`)
    },
    async writeDisk(disk) {
      const { path, format } = images[disk.index]!
      if (format === 'qcow2') await copyIntoQcow2(disk.truth, path)
    },
    leftovers: async () => [],
    stop: async () => {},
  }
  for (const disk of vm.disks) await platform.writeDisk(disk, '')
  return platform
}

/** A QCOW2 of what `raw` holds, in the place of what was there. */
export async function copyIntoQcow2(raw: string, qcow2: string): Promise<void> {
  await rm(qcow2, { force: true })
  await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2], { timeoutMs: 600_000 })
}
