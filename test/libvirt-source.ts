/** The source `libvirt` on a private libvirtd, for tests. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { LibvirtSource } from '../sources/libvirt/source.ts'
import { createTestDomain, type TestDomain } from './libvirt-domain.ts'
import type { PrivateLibvirt } from './private-libvirt.ts'
import type { SourceHarness, TestVm } from '../sources/conformance.ts'

/** Where backups of {@link createTestSource} keep their scratch files. */
export function scratchFolderOf(libvirt: PrivateLibvirt): string {
  return join(libvirt.folder, 'scratch')
}

/** Each one is as of a process of its own. */
export async function createTestSource(
  libvirt: PrivateLibvirt,
  scratchFolder = scratchFolderOf(libvirt),
): Promise<LibvirtSource> {
  await mkdir(scratchFolder, { recursive: true })
  const config = { uri: libvirt.uri, scratch_folder: scratchFolder }
  return new LibvirtSource(join(libvirt.folder, 'run-folder'), { id: 'source-1', config, credentials: null })
}

/** For the conformance suite. `state`: of the domains that it makes. */
export async function libvirtHarness(libvirt: PrivateLibvirt, state: 'running' | 'off'): Promise<SourceHarness> {
  const domains: TestDomain[] = []
  return {
    source: await createTestSource(libvirt),
    writesDuringSnapshot: 'isolated',
    async createVm(diskSizesBytes) {
      const domain = await createTestDomain(libvirt, { state, disks: diskSizesBytes.map((sizeBytes) => ({ sizeBytes })) })
      domains.push(domain)
      return testVmOf(domain)
    },
    async cleanUp() {
      for (const domain of domains) await domain.destroy()
    },
  }
}

function testVmOf(domain: TestDomain): TestVm {
  return {
    config: domain.config,
    write: (disk, offset, data) => domain.write(disk, offset, data),
    zero: (disk, offset, length) => domain.zero(disk, offset, length),
    discard: (disk, offset, length) => domain.discard(disk, offset, length),
    content: (disk) => domain.content(disk),
    async addDisk(sizeBytes) {
      await domain.addDisk({ sizeBytes })
      return domain.config
    },
    growDisk: (disk, sizeBytes) => domain.growDisk(disk, sizeBytes),
    destroy: () => domain.destroy(),
  }
}
