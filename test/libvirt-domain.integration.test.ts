import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { createTestDomain } from './libvirt-domain.ts'
import { startPrivateLibvirt } from './private-libvirt.ts'
import { requireTool } from './requires.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')

const MIB = 1024 * 1024

it('makes a domain whose disks can be written to, zeroed, discarded, grown and added, and read back', async () => {
  const libvirt = await startPrivateLibvirt()
  const domain = await createTestDomain(libvirt, { disks: [{ sizeBytes: 4 * MIB }, { sizeBytes: MIB, format: 'raw' }] })
  const model = randomBytes(4 * MIB)
  await domain.write(0, 0, model)
  await domain.zero(0, MIB, 65_536)
  await domain.discard(0, 2 * MIB, 131_072)
  model.fill(0, MIB, MIB + 65_536)
  model.fill(0, 2 * MIB, 2 * MIB + 131_072)
  expect((await domain.content(0)).equals(model)).toBe(true)
  await domain.growDisk(0, 6 * MIB)
  await domain.addDisk({ sizeBytes: 2 * MIB })
  await domain.write(2, MIB, model.subarray(0, MIB))
  expect(await Promise.all([0, 1, 2].map(async (disk) => (await domain.content(disk)).length))).toEqual([6 * MIB, MIB, 2 * MIB])
  await expect(domain.write(0, 6 * MIB, Buffer.alloc(512))).rejects.toThrow('qemu-io')
  await domain.shutDown()
  await domain.start()
  expect((await domain.content(2)).subarray(MIB).equals(model.subarray(0, MIB))).toBe(true)
  await domain.crash()
  await domain.destroy()
  await expect(domain.ask('domstate')).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND' })
})
