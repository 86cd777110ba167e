/** Disks with the file systems that every Linux kernel knows. */
import { noise } from '../disk-backups.ts'
import { linuxFiles, plainFiles } from './contents.ts'
import type { DiskRecipe, PartitionRecipe } from './golden-disk.ts'
import type { GoldenEntry, Keeps } from './planned-file.ts'

export const everything: Keeps = { modes: true, times: true, nanoseconds: true, links: true }

export const lostAndFound: GoldenEntry = {
  path: 'lost+found',
  kind: 'directory',
  mode: 0o700,
  sizeBytes: 0,
  modifiedSeconds: null,
  modifiedNanoseconds: null,
  links: null,
  target: null,
  sha256: null,
}

/** Small inodes keep no fractions of seconds. */
const wholeSeconds: Keeps = { ...everything, nanoseconds: false }

export function ext(version: 2 | 3 | 4, seed: number, change: Partial<PartitionRecipe> = {}): PartitionRecipe {
  const format = [`mkfs.ext${version}`, '-q', '-F', '-I', version === 4 ? '256' : '128', '-L', `ext${version} label`]
  return {
    sizeMib: 64,
    format,
    mount: `mount -t ext4`,
    files: linuxFiles(seed),
    keeps: version === 4 ? everything : wholeSeconds,
    inherent: [lostAndFound],
    volume: { state: 'readable', fileSystem: `ext${version}`, label: `ext${version} label` },
    ...change,
  }
}

export function xfs(seed: number, change: Partial<PartitionRecipe> = {}): PartitionRecipe {
  return {
    sizeMib: 320,
    format: ['mkfs.xfs', '-q', '-f', '-L', 'xfs label'],
    mount: 'mount -t xfs',
    files: linuxFiles(seed),
    keeps: everything,
    volume: { state: 'readable', fileSystem: 'xfs', label: 'xfs label' },
    ...change,
  }
}

export function btrfs(seed: number, change: Partial<PartitionRecipe> = {}): PartitionRecipe {
  return {
    sizeMib: 128,
    format: ['mkfs.btrfs', '-q', '-f', '-L', 'btrfs label'],
    mount: 'mount -t btrfs -o compress-force=zstd',
    files: linuxFiles(seed),
    keeps: everything,
    volume: { state: 'readable', fileSystem: 'btrfs', label: 'btrfs label' },
    ...change,
  }
}

const swap: PartitionRecipe = { sizeMib: 8, format: ['mkswap', '-q'], volume: { state: 'swap', fileSystem: 'swap' } }

/** One file system on the whole disk, and nothing else. */
export const wholeDisk: DiskRecipe = { name: 'whole-disk', table: null, partitions: [ext(4, 1, { sizeMib: 160 })] }

export const gptDisk: DiskRecipe = { name: 'gpt', table: 'gpt', partitions: [ext(4, 2), xfs(3), swap, btrfs(4)] }

export const mbrDisk: DiskRecipe = {
  name: 'mbr',
  table: 'dos',
  partitions: [
    ext(2, 5, { files: plainFiles(5) }),
    { ...swap, type: 'swap' },
    ext(3, 6, { logical: true, files: plainFiles(6) }),
    { sizeMib: 4, logical: true, bytes: [[0, noise(65_536, 7)]], volume: { state: 'unknown', fileSystem: '', note: /./ } },
    ext(4, 8, { logical: true, files: plainFiles(8) }),
  ],
}

/** The power went while these were mounted. Their journals hold what was written last. */
export const dirtyDisk: DiskRecipe = {
  name: 'dirty',
  table: 'gpt',
  partitions: [ext(4, 10), ext(3, 11, { files: plainFiles(11) }), xfs(12), btrfs(13)].map((partition) => ({
    ...partition,
    dirty: true,
  })),
}

/** A folder `many` with so many empty files, and folders `d` within each other with the file `bottom` below the last. */
export function extremeDisk(entries: number, levels: number): DiskRecipe {
  const format = ['mkfs.ext4', '-q', '-F', '-N', `${entries + levels + 1_000}`, '-O', '^has_journal']
  return {
    name: 'extreme',
    table: null,
    partitions: [{ sizeMib: 300, format, volume: { state: 'readable', fileSystem: 'ext4' } }],
    // One system call per file (mknodat, of a regular one), because a hundred thousand of them take their time.
    script: async (device) => `mount ${device} /mnt
perl -e 'mkdir "/mnt/many"; chdir "/mnt/many" or die; my $name; for (1 .. ${entries}) { $name = "file-$_"; syscall(259, -100, $name, 0x81a4, 0) }'
perl -e 'chdir "/mnt" or die; for (1 .. ${levels}) { mkdir "d" or die $!; chdir "d" or die $! } open(my $f, ">", "bottom") or die; print $f "deep\n"'
umount /mnt`,
  }
}
