/** File systems that others made with other tools: see third-party/README.md. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { MIB } from '../disk-backups.ts'
import { file, folder } from './contents.ts'
import type { DiskRecipe, PartitionRecipe } from './golden-disk.ts'
import { lostAndFound } from './linux-disks.ts'
import type { GoldenEntry, Keeps, PlannedFile } from './planned-file.ts'

const nothing: Keeps = { modes: false, times: false, nanoseconds: false, links: false }

/** As dfVFS's tests state it. */
const passwords = `place,user,password
bank,joesmith,superrich
alarm system,-,1234
treasure chest,-,1111
uber secret laire,admin,admin
`
const text = 'This is a text file.\n\nWe should be able to parse it.\n'
const another = 'This is another file.\n'

function files(): PlannedFile[] {
  return [
    file('passwords.txt', passwords),
    folder('a_directory'),
    file('a_directory/a_file', text),
    file('a_directory/another_file', another),
  ]
}

const link: PlannedFile = { ...file('a_link', ''), kind: 'symlink', target: 'a_directory/another_file' }

/** What macOS put there; nobody says what it holds. */
const ofMacOs: GoldenEntry[] = [
  { ...lostAndFound, path: '.HFS+ Private Directory Data\r', mode: null },
  { ...lostAndFound, path: '.fseventsd', mode: null },
  { ...lostAndFound, path: '.fseventsd/00000000171494cb', kind: 'file', mode: null, sizeBytes: 161 },
  { ...lostAndFound, path: '.fseventsd/00000000171494cc', kind: 'file', mode: null, sizeBytes: 72 },
  { ...lostAndFound, path: '.fseventsd/fseventsd-uuid', kind: 'file', mode: null, sizeBytes: 36 },
]

function image(name: string, label: string, planned: readonly PlannedFile[], inherent: readonly GoldenEntry[]): PartitionRecipe {
  const content = gunzipSync(readFileSync(join(import.meta.dirname, 'third-party', `${name}.raw.gz`)))
  return {
    // Exactly: HFS+ keeps something at the end.
    sizeMib: content.length / MIB,
    bytes: [[0, content]],
    files: planned,
    keeps: nothing,
    inherent,
    volume: { state: 'readable', fileSystem: name, label },
  }
}

export const thirdPartyDisk: DiskRecipe = {
  name: 'third-party',
  table: 'gpt',
  partitions: [
    image('ext2', 'ext2_test', [...files(), link], [lostAndFound]),
    image('iso9660', 'CDROM', files(), [{ ...lostAndFound, path: 'lost_found', mode: null }]),
    image('hfsplus', 'hfsplus_test', [...files(), link, file('a_directory/a_resourcefork', '')], ofMacOs),
  ],
}
