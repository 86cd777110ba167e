/** What other systems write, and what is no file system: most of it unknown to a host's kernel without modules. */
import { noise } from '../disk-backups.ts'
import { deceivingLinks, file, plainFiles, sparseFile } from './contents.ts'
import type { DiskRecipe, PartitionRecipe } from './golden-disk.ts'
import type { Keeps, PlannedFile } from './planned-file.ts'

const nothing: Keeps = { modes: false, times: false, nanoseconds: false, links: false }
/** FAT counts time in pairs of seconds. */
const evenSeconds: Keeps = { ...nothing, times: true }

function fat(bits: 12 | 16 | 32, sizeMib: number, sectorsPerCluster: number): PartitionRecipe {
  return {
    sizeMib,
    format: ['mkfs.vfat', '-F', `${bits}`, '-s', `${sectorsPerCluster}`, '-n', `FAT${bits} LABEL`],
    mount: 'load vfat; load nls_cp437; load nls_ascii; load nls_iso8859-1; load nls_utf8; mount -t vfat -o utf8=1',
    files: plainFiles(bits),
    keeps: evenSeconds,
    volume: { state: 'readable', fileSystem: 'vfat', label: `FAT${bits} LABEL` },
  }
}

const exfat: PartitionRecipe = {
  sizeMib: 32,
  format: ['mkfs.exfat', '-L', 'exfat label'],
  mount: 'load fuse; mount.exfat-fuse',
  files: plainFiles(30),
  keeps: evenSeconds,
  volume: { state: 'readable', fileSystem: 'exfat', label: 'exfat label' },
}

const ntfsFiles: PlannedFile[] = [
  ...plainFiles(31),
  sparseFile('sparse', 31),
  file('twin', 'two names\n'),
  file('folder/twin of it', '', { linkTo: 'twin' }),
  ...deceivingLinks(),
]

const ntfs: PartitionRecipe = {
  sizeMib: 64,
  type: 'ebd0a0a2-b9e5-4433-87c0-68b6b72699c7',
  format: ['mkntfs', '-Q', '-q', '-F', '-L', 'ntfs läbel'],
  mount: 'load fuse; ntfs-3g -o streams_interface=none',
  files: ntfsFiles,
  keeps: { ...nothing, times: true, nanoseconds: true, links: true },
  volume: { state: 'readable', fileSystem: 'ntfs', label: 'ntfs läbel' },
}

const udf: PartitionRecipe = {
  sizeMib: 32,
  format: ['mkudffs', '--media-type=hd', '--blocksize=512', '--label=udf label'],
  mount: 'load udf; load nls_utf8; mount -t udf -o iocharset=utf8',
  // A byte of each name says how the others are written.
  files: plainFiles(32).filter(({ path }) => Buffer.byteLength(path) < 255),
  keeps: nothing,
  volume: { state: 'readable', fileSystem: 'udf', label: 'udf label' },
}

const luks: PartitionRecipe = {
  sizeMib: 20,
  format: [
    'cryptsetup',
    '--batch-mode',
    'luksFormat',
    '--pbkdf',
    'pbkdf2',
    '--pbkdf-force-iterations',
    '1000',
    '--key-file',
    '/etc/hostname',
  ],
  volume: { state: 'encrypted', fileSystem: 'crypto_LUKS', note: /LUKS/ },
}

const bitLocker: PartitionRecipe = {
  sizeMib: 4,
  bytes: [[0, bitLockerHeader()]],
  volume: { state: 'encrypted', fileSystem: 'BitLocker', note: /BitLocker/ },
}

/** As Windows Vista's: what tells that the rest is encrypted is all that anybody can read. */
function bitLockerHeader(): Buffer {
  const header = Buffer.alloc(512)
  Buffer.from([0xeb, 0x52, 0x90]).copy(header)
  header.write('-FVE-FS-', 3, 'latin1')
  header.writeUInt16LE(512, 11)
  header.writeUInt16LE(0xaa55, 510)
  return header
}

/** A file system that begins well, and then does not go on. */
const broken: PartitionRecipe = {
  sizeMib: 16,
  format: ['mkfs.ext4', '-q', '-F', '-b', '1024', '-L', 'broken'],
  bytes: [[2048, noise(1024 * 1024, 40)]],
  volume: { state: 'damaged', fileSystem: 'ext4', label: 'broken', note: /damaged/ },
}

const random: PartitionRecipe = {
  sizeMib: 4,
  bytes: [[0, noise(262_144, 41)]],
  volume: { state: 'unknown', fileSystem: '', note: /no file system/ },
}
const empty: PartitionRecipe = { sizeMib: 4, volume: { state: 'unknown', fileSystem: '', note: /nothing/ } }
const reserved: PartitionRecipe = {
  sizeMib: 4,
  type: 'e3c9e316-0b5c-4db8-817d-f92df00215ae',
  volume: { state: 'unknown', fileSystem: '', note: /Windows/ },
}

export const foreignDisk: DiskRecipe = {
  name: 'foreign',
  table: 'gpt',
  partitions: [fat(12, 8, 8), fat(16, 40, 4), fat(32, 72, 1), exfat, ntfs, udf, luks, bitLocker, broken, random, empty, reserved],
}

/** Nothing can be read from these. */
export const noiseDisk: DiskRecipe = { name: 'noise', table: null, partitions: [{ ...random, sizeMib: 64 }] }
