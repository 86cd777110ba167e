import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startPrivateLibvirt } from '../test/private-libvirt.ts'
import { requireTool } from '../test/requires.ts'
import { runTool } from '../tools/run-tool.ts'
import { startLiveDomain } from './live-domain.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')

test('writes to the disks of a running domain, and tells when a write did not happen', async () => {
  const libvirt = await startPrivateLibvirt()
  const disk = join(libvirt.folder, 'vda.qcow2')
  await runTool('qemu-img', ['create', '-q', '-f', 'qcow2', disk, '8M'], { timeoutMs: 10_000 })

  const domain = await startLiveDomain(libvirt, 'live', [disk])
  await domain.writeDisk(0, 'write -P 0x11 1M 1M')
  await domain.writeDisk(0, 'write -z -u 1M 64k')

  expect((await libvirt.ask('domstate', domain.uuid)).trim()).toBe('paused')
  await expect(domain.writeDisk(0, 'write -P 0x11 9M 1M')).rejects.toThrow('refused')
  await expect(domain.writeDisk(0, 'write -s /nowhere 0 1M')).rejects.toThrow('/nowhere')
  await expect(domain.writeDisk(1, 'write -P 0x11 0 1M')).rejects.toThrow('Disk 1 of live refused')

  await libvirt.ask('destroy', domain.uuid, '--graceful')
  const reads = ['-c', 'read -P 0x11 1088k 960k', '-c', 'read -P 0 1M 64k']
  const { stdout } = await runTool('qemu-io', ['-r', '-f', 'qcow2', ...reads, disk], { timeoutMs: 10_000 })
  expect(stdout.match(/^read (\d+)\/\1 bytes/gm)).toHaveLength(2)
})
