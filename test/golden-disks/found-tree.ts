/** What a reader shows of a volume, in the form that the makers of golden disks tell it. */
import { createHash } from 'node:crypto'
import type { Volume } from '../../domain/restore-mount.ts'
import type { ByteRange, FileReader } from '../../mounts/file-reader.ts'
import type { GoldenEntry } from './planned-file.ts'

const PAGE = 7
const EVERYTHING: ByteRange = { offset: 0, length: Number.MAX_SAFE_INTEGER }

/** Every path of the volume with what `list` and `read` say of it; of the golden entry's `null`s nothing is asked. */
export async function treeFound(reader: FileReader, volume: Volume, golden: readonly GoldenEntry[]): Promise<GoldenEntry[]> {
  const expected = new Map(golden.map((entry) => [entry.path, entry]))
  const found: GoldenEntry[] = []
  const folders = ['']
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const { name, status, problem } of await entriesOf(reader, volume, folder)) {
      const path = folder === '' ? name : `${folder}/${name}`
      if (status === null) throw new TypeError(`"${path}" has no status: ${problem}`)
      if (status.kind === 'directory') folders.push(path)
      const wanted = expected.get(path)
      const onlyIf = <T>(key: keyof GoldenEntry, value: T): T | null => (wanted?.[key] === null ? null : value)
      found.push({
        path,
        kind: status.kind,
        mode: onlyIf('mode', status.mode),
        sizeBytes: status.sizeBytes,
        modifiedSeconds: onlyIf('modifiedSeconds', status.modifiedSeconds),
        modifiedNanoseconds: onlyIf('modifiedNanoseconds', status.modifiedNanoseconds),
        links: onlyIf('links', status.links),
        target: status.target,
        sha256: status.kind === 'file' && wanted?.sha256 !== null ? await sha256Of(reader, volume, path) : null,
      })
    }
  }
  return byPath(found)
}

/** All of a folder, page by page. */
export async function entriesOf(
  reader: FileReader,
  volume: Volume,
  path: string,
): Promise<Awaited<ReturnType<FileReader['list']>>['entries']> {
  const entries = []
  for (;;) {
    const page = await reader.list(volume, path, { first: entries.length, most: PAGE })
    entries.push(...page.entries)
    if (page.entries.length === 0 || entries.length >= page.total) return entries
  }
}

export function byPath(entries: readonly GoldenEntry[]): GoldenEntry[] {
  return entries.toSorted((one, other) => (one.path < other.path ? -1 : 1))
}

export async function sha256Of(reader: FileReader, volume: Volume, path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of reader.read(volume, path, EVERYTHING)) hash.update(piece)
  return hash.digest('hex')
}

export async function contentOf(reader: FileReader, volume: Volume, path: string, range = EVERYTHING): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for await (const piece of reader.read(volume, path, range)) pieces.push(piece)
  return Buffer.concat(pieces)
}
