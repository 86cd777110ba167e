/** Files that show what a file system can hold, and what must not deceive a reader. */
import { nameFromBytes } from '../../mounts/file-names.ts'
import { MIB, noise, prose } from '../disk-backups.ts'
import type { PlannedFile } from './planned-file.ts'

/** 2026-03-04T05:06:08Z, and a fraction of a second that NTFS can keep too. */
const MODIFIED_SECONDS = 1_772_600_768
const MODIFIED_NANOSECONDS = 123_456_700

const base = {
  kind: 'file' as const,
  mode: 0o644,
  modifiedSeconds: MODIFIED_SECONDS,
  modifiedNanoseconds: MODIFIED_NANOSECONDS,
  pieces: [],
  sizeBytes: 0,
  target: null,
  linkTo: null,
}

export function file(path: string, content: Buffer | string, change: Partial<PlannedFile> = {}): PlannedFile {
  const bytes = Buffer.from(content)
  return { ...base, path, pieces: bytes.length === 0 ? [] : [[0, bytes]], sizeBytes: bytes.length, ...change }
}

export function folder(path: string, change: Partial<PlannedFile> = {}): PlannedFile {
  return { ...base, path, kind: 'directory', mode: 0o755, ...change }
}

function symlink(path: string, target: string): PlannedFile {
  return { ...base, path, kind: 'symlink', mode: 0o777, target }
}

/** What every file system here can hold. `seed` makes the content of two volumes differ. */
export function plainFiles(seed: number): PlannedFile[] {
  return [
    file('empty', ''),
    file('one-byte', 'x'),
    file('noise.bin', noise(3 * MIB + 12_345, seed), { modifiedSeconds: 1_000_000_000 }),
    file('prose.txt', prose(200_000, seed)),
    folder('folder'),
    folder('folder/inner', { modifiedSeconds: 1_500_000_000 }),
    folder('folder/inner/deepest'),
    file('folder/inner/deepest/file.txt', `at the end of the way, ${seed}\n`),
    folder('folder/nothing in it'),
    file('Mixed Case and spaces.TXT', 'two\n'),
    file('ünïcödé-日本語-😀', 'names are bytes\n'),
    file(`${'n'.repeat(251)}.txt`, 'a long name\n'),
  ]
}

/** One name that is no text, one that looks like our way of writing such names, and others that trip programs up. */
export const oddNames = [
  nameFromBytes(Buffer.from([0x63, 0x61, 0x66, 0xe9, 0xff])),
  nameFromBytes(Buffer.from([0x75, 0xef, 0x9e, 0xa9])),
  'line\nbreak',
  'quotes " \' and \\ and $(reboot) and %2e%2e',
  ' blanks around ',
  '-dash',
  '...',
  'é'.repeat(127) + 'x',
]

/** What Linux's own file systems can hold. */
export function linuxFiles(seed: number): PlannedFile[] {
  return [
    ...plainFiles(seed),
    sparseFile('sparse', seed),
    folder('odd'),
    ...oddNames.map((name, index) => file(`odd/${name}`, `odd ${index}\n`)),
    file('twin', `two names, ${seed}\n`, { mode: 0o640 }),
    file('folder/twin of it', '', { linkTo: 'twin' }),
    ...deceivingLinks(),
    { ...base, path: 'pipe', kind: 'fifo', mode: 0o600 },
    { ...base, path: 'socket', kind: 'socket', mode: 0o600 },
    { ...base, path: 'zeroes', kind: 'character-device', mode: 0o666 },
    { ...base, path: 'the disk itself', kind: 'block-device', mode: 0o660 },
    file('set-user-id', 'not run\n', { mode: 0o4755 }),
    file('nobody may read it', 'a backup must\n', { mode: 0 }),
    folder('sticky', { mode: 0o1777 }),
  ]
}

/** With a beginning, a middle and an end, and nothing between them. */
export function sparseFile(path: string, seed: number): PlannedFile {
  const pieces: PlannedFile['pieces'] = [0, 9 * MIB, 20 * MIB].map((offset) => [offset, noise(70_000, seed + offset)])
  return { ...base, path, pieces, sizeBytes: 24 * MIB }
}

export function deceivingLinks(): PlannedFile[] {
  return [
    symlink('link-to-folder', 'folder/inner'),
    symlink('link-to-file', 'one-byte'),
    symlink('link-absolute', '/etc/shadow'),
    symlink('link-out', '../../../../../etc'),
    symlink('link-loop', 'link-loop'),
    symlink('link-dangling', 'nowhere/at all'),
  ]
}
