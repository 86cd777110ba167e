import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'
import { describeDriver } from '../conformance.ts'
import { createMountOpener } from '../open-restore-mount.ts'
import { kernelFileSystems } from './file-systems.ts'

requireTool('qemu-storage-daemon')
requireTool('ntfs-3g')

/** What this host's kernel has, by what it says itself; ntfs-3g needs no kernel's help. */
const known = (await readFile('/proc/filesystems', 'utf8')).split(/\s+/)
const reads = (fileSystem: string): boolean =>
  fileSystem === 'ntfs' || known.includes(kernelFileSystems.get(fileSystem)?.kind ?? 'none')

describeDriver('kernel', { reads, volumeManagers: false, journals: false }, async () => {
  const folder = await createTemporaryFolder()
  const options = { driver: 'kernel' as const, runFolder: join(folder.path, 'run'), cacheFolder: join(folder.path, 'cache') }
  return { openMount: createMountOpener(options), cleanUp: () => folder.remove() }
})
