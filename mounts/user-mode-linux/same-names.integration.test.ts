import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { backUpImage, MIB } from '../../test/disk-backups.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'
import { runInUml } from '../../test/uml-machine.ts'
import { createMountOpener } from '../open-restore-mount.ts'

for (const tool of ['linux.uml', 'qemu-storage-daemon', 'bwrap', 'lvm', 'sfdisk', 'mkfs.ext4']) requireTool(tool)

/** Groups of one name, as on a disk that was copied, and a group that is named as partitions are. */
const script = `load dm-mod
sfdisk --quiet /dev/ubda <<end
label: dos
size=24M
size=24M
size=24M
size=24M
end
only() { part=$1; shift; lvm "$@" --config "devices{use_devicesfile=0 filter=[\\"a|^/dev/ubda$part\\$|\\",\\"r|.*|\\"]} activation{monitoring=0 udev_sync=0 udev_rules=0}" >/dev/null; }
for part in 1 2; do only $part vgcreate --yes same /dev/ubda$part; only $part lvcreate --yes -an -Zn -n data -L 16M same; done
only 3 vgcreate --yes partition /dev/ubda3; only 3 lvcreate --yes -Zn -n 4 -L 16M partition
mkfs.ext4 -q -L logical /dev/mapper/partition-4
only 3 vgchange -an partition
only 1 vgchange -ay same; mkfs.ext4 -q -L first /dev/mapper/same-data; only 1 vgchange -an same
mkfs.ext4 -q -L plain /dev/ubda4
sync`

it('keeps volumes apart whose names are the same, and opens what can be told apart', { timeout: 120_000 }, async () => {
  const storage = await createTemporaryFolder()
  onTestFinished(() => storage.remove())
  const imagePath = join(storage.path, 'disk.raw')
  const file = await open(imagePath, 'w')
  await file.truncate(100 * MIB)
  await file.close()
  await runInUml({ script, disks: [imagePath], folder: storage.path, timeoutMs: 60_000 })
  const { links } = await backUpImage({
    folder: join(storage.path, 'backups'),
    backupId: 'full',
    imagePath,
    sizeBytes: 100 * MIB,
  })
  const openMount = createMountOpener({
    driver: 'user-mode-linux',
    runFolder: join(storage.path, 'run'),
    cacheFolder: join(storage.path, 'cache'),
  })
  const mount = await openMount({ mountId: 'same', links })
  onTestFinished(() => mount.close())
  const { reader } = mount
  expect(reader.volumes.slice(0, 4).map(({ id, state, label }) => [id, state, label])).toEqual([
    ['partition-1', 'member', ''],
    ['partition-2', 'member', ''],
    ['partition-3', 'member', ''],
    ['partition-4', 'readable', 'plain'],
  ])
  const logical = reader.volumes.find(({ label }) => label === 'logical')
  expect(logical).toMatchObject({ id: 'partition-4+2', state: 'readable' })
  expect(reader.volumes.filter(({ id }) => id.startsWith('same-data'))).toMatchObject([
    { id: 'same-data', note: expect.stringContaining('another volume group of the same name') },
  ])
  // No cursor of ours leads there, but a client may make one.
  const beyond = { first: Number.MAX_SAFE_INTEGER, most: 1 }
  expect((await reader.list(logical!, '', beyond)).entries).toEqual([])
})
