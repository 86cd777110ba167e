import { join } from 'node:path'
import { describeDriver } from '../conformance.ts'
import { createMountOpener } from '../open-restore-mount.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'

requireTool('linux.uml')
requireTool('qemu-storage-daemon')

describeDriver('user-mode-linux', { reads: () => true, volumeManagers: true, journals: true }, async () => {
  const folder = await createTemporaryFolder()
  const options = {
    driver: 'user-mode-linux' as const,
    runFolder: join(folder.path, 'run'),
    cacheFolder: join(folder.path, 'cache'),
  }
  return { openMount: createMountOpener(options), cleanUp: () => folder.remove() }
})
