/** Disks whose file systems lie in logical volumes and RAID arrays. */
import { file, plainFiles } from './contents.ts'
import type { DiskRecipe, GoldenVolume, PartitionRecipe, WriteFiles } from './golden-disk.ts'
import { everything, ext, lostAndFound } from './linux-disks.ts'
import { goldenEntries, type PlannedFile } from './planned-file.ts'

function member(sizeMib: number, fileSystem: 'LVM2_member' | 'linux_raid_member', note?: RegExp): PartitionRecipe {
  return { sizeMib, volume: { state: 'member', fileSystem, note: note ?? /./ } }
}

/** An ext4 made in the machine, on a device that only it has: what a reader finds, and the commands. */
function made(id: string, seed: number, note?: RegExp, more: readonly PlannedFile[] = []): GoldenVolume {
  const entries = [...goldenEntries([...plainFiles(seed), ...more], everything), lostAndFound]
  return { id, state: 'readable', fileSystem: 'ext4', label: '', entries, ...(note === undefined ? {} : { note }) }
}

async function fill(device: string, seed: number, write: WriteFiles): Promise<string> {
  return `mkfs.ext4 -q -F ${device}
mount ${device} /mnt
${await write(plainFiles(seed), '/mnt')}
umount /mnt`
}

/** The host's own settings and records of LVM are neither read nor written. */
const lvm = `load dm-mod; load dm-snapshot; load dm-thin-pool; load dm-raid; load raid1; load dm-mirror
mkdir -p /run/lvm-settings /run/lock/lvm; export LVM_SYSTEM_DIR=/run/lvm-settings
printf 'devices { use_devicesfile=0 }\nactivation { monitoring=0 udev_sync=0 udev_rules=0 }\n' >/run/lvm-settings/lvm.conf`

/** Written after a snapshot was taken. */
const addedLater = file('added later', 'not in the snapshot\n')

/** Two volumes in one group, one group over two partitions, a snapshot, a thin volume, and a group that lacks one of its disks. */
export const lvmDisk: DiskRecipe = {
  name: 'lvm',
  table: 'dos',
  partitions: [
    member(100, 'LVM2_member'),
    member(40, 'LVM2_member'),
    { ...member(40, 'LVM2_member'), logical: true },
    ext(2, 50, { sizeMib: 24, logical: true, files: plainFiles(50) }),
    { ...member(120, 'LVM2_member'), logical: true },
    { ...member(48, 'LVM2_member'), logical: true },
    { sizeMib: 48, logical: true, volume: { state: 'unknown', fileSystem: '', note: /nothing/ } },
  ],
  volumes: [
    made('vg0-root', 51, undefined, [addedLater]),
    made('vg0-home--of--all', 52),
    made('vg0-before', 51),
    made('vg1-both', 53),
    made('vg2-thin', 54),
    made('vg3-here', 55),
    { id: 'vg3-lost', state: 'damaged', fileSystem: '', note: /missing/, entries: null },
  ],
  script: async (device, write) => `${lvm}
lvm >/dev/null <<end
vgcreate --yes vg0 ${device}1
vgcreate --yes vg1 ${device}2 ${device}5
vgcreate --yes vg2 ${device}7
vgcreate --yes vg3 ${device}8 ${device}9
lvcreate --yes -n root -L 32M vg0
lvcreate --yes -n home-of-all -L 24M vg0
lvcreate --yes -n both -L 64M vg1
lvcreate --yes --type thin-pool -L 64M -n pool vg2
lvcreate --yes --type thin -V 200M --thinpool pool -n thin vg2
lvcreate --yes -n here -L 40M vg3 ${device}8
lvcreate --yes -n lost -L 32M vg3 ${device}9
end
${await fill('/dev/mapper/vg0-root', 51, write)}
${await fill('/dev/mapper/vg0-home--of--all', 52, write)}
${await fill('/dev/mapper/vg1-both', 53, write)}
${await fill('/dev/mapper/vg2-thin', 54, write)}
${await fill('/dev/mapper/vg3-here', 55, write)}
lvm lvcreate -s -n before -L 16M vg0/root >/dev/null
mount /dev/mapper/vg0-root /mnt; ${await write([addedLater], '/mnt')}; umount /mnt
lvm vgchange -an >/dev/null
dd if=/dev/zero of=${device}9 bs=1M count=1 status=none`,
}

const raid = `export MDADM_NO_UDEV=1; for module in md-mod linear raid0 raid1 raid456; do load $module; done
array() { mdadm --create --run --quiet "$@"; }`

const btrfsMember: PartitionRecipe = { sizeMib: 144, volume: null }

/** Whole and degraded arrays, one with partitions, volumes on an array, and btrfs on several partitions. */
export const raidDisk: DiskRecipe = {
  name: 'raid',
  table: 'gpt',
  partitions: [
    ...Array.from({ length: 7 }, () => member(40, 'linux_raid_member')),
    member(16, 'linux_raid_member', /missing/),
    ...Array.from({ length: 5 }, () => btrfsMember),
  ],
  volumes: [
    made('md0', 60, /missing/),
    made('md1', 61),
    { id: 'md2', state: 'member', fileSystem: 'LVM2_member', note: /./, entries: null },
    made('vg9-on--raid', 62),
    made('md3p1', 63, /missing/),
    { id: 'partition-9', state: 'readable', fileSystem: 'btrfs', entries: goldenEntries(plainFiles(64), everything) },
    { id: 'partition-10', state: 'member', fileSystem: 'btrfs', note: /partition-9/, entries: null },
    {
      id: 'partition-11',
      state: 'readable',
      fileSystem: 'btrfs',
      note: /missing/,
      entries: goldenEntries(plainFiles(65), everything),
    },
    { id: 'partition-12', state: 'unknown', fileSystem: '', note: /nothing/, entries: null },
    { id: 'partition-13', state: 'damaged', fileSystem: 'btrfs', note: /missing/, entries: null },
  ],
  script: async (device, write) => `${raid}
${lvm}
array /dev/md0 -l1 -n2 ${device}1 missing
array /dev/md1 -l0 -n2 ${device}2 ${device}3
array /dev/md2 -llinear -n2 ${device}4 ${device}5
array /dev/md3 -l5 -n3 ${device}6 ${device}7 missing
lvm >/dev/null <<end
vgcreate --yes vg9 /dev/md2
lvcreate --yes -n on-raid -L 48M vg9
end
echo 'start=2048, type=linux' | sfdisk --quiet --label gpt /dev/md3
${await fill('/dev/md0', 60, write)}
${await fill('/dev/md1', 61, write)}
${await fill('/dev/mapper/vg9-on--raid', 62, write)}
${await fill('/dev/md3p1', 63, write)}
lvm vgchange -an >/dev/null
array /dev/md4 -l0 -n2 ${device}8 ${device}9
for number in 0 1 2 3 4; do mdadm --quiet --stop /dev/md$number; done
mkfs.btrfs -q -f -m single -d single ${device}9 ${device}10 >/dev/null
mount -t btrfs ${device}9 /mnt; ${await write(plainFiles(64), '/mnt')}; umount /mnt
mkfs.btrfs -q -f -m raid1 -d raid1 ${device}11 ${device}12 >/dev/null
mount -t btrfs ${device}11 /mnt; ${await write(plainFiles(65), '/mnt')}; umount /mnt
dd if=/dev/zero of=${device}12 bs=1M count=144 status=none
mkfs.btrfs -q -f -m raid0 -d raid0 ${device}13 ${device}12 >/dev/null
dd if=/dev/zero of=${device}12 bs=1M count=144 status=none`,
}
