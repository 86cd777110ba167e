import { afterAll, beforeAll } from 'vitest'
import { libvirtHarness } from '../../test/libvirt-source.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../test/private-libvirt.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'
import { describeSource } from '../conformance.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')

let libvirt: PrivateLibvirt
let folder: Awaited<ReturnType<typeof createTemporaryFolder>>

beforeAll(async () => {
  folder = await createTemporaryFolder()
  libvirt = await startPrivateLibvirt({ keep: true, folder: folder.path })
})
afterAll(async () => {
  await libvirt.stop()
  await folder.remove()
})

describeSource('libvirt, of running domains', () => libvirtHarness(libvirt, 'running'))
