/** Archives of the kind that a kernel unpacks as its first file system: cpio, format "newc". */

export type ArchiveEntry = { path: string } & ({ kind: 'folder' } | { kind: 'file'; content: Uint8Array; executable: boolean })

const MAGIC = '070701'
/** In front of the name: the magic and 13 numbers of 8 hexadecimal digits. */
const HEADER_BYTES = 110
const ALIGNMENT = 4

/** The same entries give the same bytes. Folders come before what is in them. Paths are relative. */
export function cpioArchive(entries: readonly ArchiveEntry[]): Buffer {
  const members = entries.map((entry, index) => member(entry.path, index + 1, modeOf(entry), contentOf(entry)))
  return Buffer.concat([...members, member('TRAILER!!!', 0, 0, new Uint8Array())].flat())
}

function member(path: string, inode: number, mode: number, content: Uint8Array): Uint8Array[] {
  const name = Buffer.from(`${path}\0`)
  // Inode, mode, owner, group, links, time, size, four device numbers, length of the name, checksum (none).
  const numbers = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0]
  const header = Buffer.from(MAGIC + numbers.map((number) => number.toString(16).padStart(8, '0')).join(''))
  return [header, name, padding(HEADER_BYTES + name.length), content, padding(content.length)]
}

function padding(length: number): Uint8Array {
  return new Uint8Array((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT)
}

function modeOf(entry: ArchiveEntry): number {
  if (entry.kind === 'folder') return 0o040755
  return entry.executable ? 0o100755 : 0o100644
}

function contentOf(entry: ArchiveEntry): Uint8Array {
  return entry.kind === 'file' ? entry.content : new Uint8Array()
}
