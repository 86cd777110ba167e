/** What answers of the reader say. All of them throw `senseless` for what is not as agreed. */
import type { Volume, VolumeState } from '../../domain/restore-mount.ts'
import { problemOf } from '../file-errors.ts'
import { nameFromBytes } from '../file-names.ts'
import type { Entry, FileKind, FileStatus } from '../file-reader.ts'
import { ByteReader } from './byte-reader.ts'
import { senseless } from './protocol.ts'

/** As `guest/volumes.pl` keeps them. */
const VOLUMES_MAX = 128
const TEXT_MAX_BYTES = 1_024
const NAME_MAX_BYTES = 1_024
/** A symbolic link's: Linux keeps a page of memory of it, whatever the file system. */
const TARGET_MAX_BYTES = 8_192
const NANOSECONDS_MAX = 999_999_999

const states: ReadonlySet<string> = new Set<VolumeState>(['readable', 'encrypted', 'swap', 'member', 'damaged', 'unknown'])

/** In the order of their numbers, which requests name them by. */
export function volumesIn(payload: Buffer): Volume[] {
  const reader = new ByteReader(payload)
  const volumes: Volume[] = []
  while (reader.left > 0) {
    volumes.push(volumeIn(reader))
    if (volumes.length > VOLUMES_MAX) throw senseless('more volumes than any disk has')
  }
  if (new Set(volumes.map(({ id }) => id)).size < volumes.length) throw senseless('two volumes of one id')
  return volumes
}

/** The record: id, state, file system, label, UUID, device, note, each counted; the size in bytes. */
function volumeIn(reader: ByteReader): Volume {
  const text = (): string => reader.counted(TEXT_MAX_BYTES).toString('utf8')
  const id = text()
  if (!/^(?!\.\.?$)[A-Za-z0-9._+-]{1,255}$/.test(id)) throw senseless('a volume whose id is none')
  const state = text()
  if (!isState(state)) throw senseless('a volume in no known state')
  const [fileSystem, label, uuid] = [text(), text(), text()]
  // The device is for the console.
  text()
  return { id, state, fileSystem, label, uuid, note: text(), sizeBytes: reader.number64() }
}

function isState(text: string): text is VolumeState {
  return states.has(text)
}

/** `count` entries, and nothing else, in these bytes. */
export function entriesIn(bytes: Buffer, count: number): Entry[] {
  const reader = new ByteReader(bytes)
  const entries: Entry[] = []
  for (let number = 0; number < count; number++) entries.push(entryIn(reader))
  reader.end()
  return entries
}

/** The one entry of a status, whose name nobody needs; or the error number that the file system gave instead. */
export function statusIn(payload: Buffer): FileStatus | number {
  const reader = new ByteReader(payload)
  reader.counted(NAME_MAX_BYTES)
  const errno = reader.number32()
  const status = statusOrEmpty(reader, errno)
  reader.end()
  return errno === 0 ? (status ?? EUCLEAN) : errno
}

const EUCLEAN = 117

function entryIn(reader: ByteReader): Entry {
  const bytes = reader.counted(NAME_MAX_BYTES)
  const isName = bytes.length > 0 && !bytes.includes(0) && !bytes.includes(0x2f)
  const name = nameFromBytes(bytes)
  if (!isName || name === '.' || name === '..') throw senseless('a name that is none')
  const errno = reader.number32()
  const status = statusOrEmpty(reader, errno)
  return { name, status, problem: status ? null : problemOf(errno === 0 ? EUCLEAN : errno) }
}

/** `null` after an error number, which nothing follows, and for what is of no kind that Linux has, as damaged file systems show it. */
function statusOrEmpty(reader: ByteReader, errno: number): FileStatus | null {
  if (errno !== 0) return null
  const mode = reader.number32()
  const [uid, gid, size, links, inode] = [
    reader.number32(),
    reader.number32(),
    reader.number64(),
    reader.number64(),
    reader.number64(),
  ]
  const modifiedSeconds = reader.signed64()
  const modifiedNanoseconds = Math.min(reader.number32(), NANOSECONDS_MAX)
  const target = nameFromBytes(reader.counted(TARGET_MAX_BYTES))
  const kind = kinds.get(mode & KIND_BITS)
  if (!kind) return null
  return {
    kind,
    mode: mode & 0o7777,
    uid,
    gid,
    sizeBytes: kind === 'file' ? size : 0,
    inode,
    links,
    modifiedSeconds,
    modifiedNanoseconds,
    target: kind === 'symlink' ? target : null,
  }
}

const KIND_BITS = 0o170000
const kinds: ReadonlyMap<number, FileKind> = new Map([
  [0o100000, 'file'],
  [0o040000, 'directory'],
  [0o120000, 'symlink'],
  [0o010000, 'fifo'],
  [0o140000, 'socket'],
  [0o060000, 'block-device'],
  [0o020000, 'character-device'],
])
