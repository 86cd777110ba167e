/** What a golden file system holds: planned here, written by `populate.pl`, and told to tests from the plan, never read back. */
import { createHash } from 'node:crypto'
import type { FileKind } from '../../mounts/file-reader.ts'

export interface PlannedFile {
  /** Below the volume's root, names joined by `/`, as text of `file-names.ts`. Folders come before what they hold. */
  path: string
  kind: FileKind
  mode: number
  /** Even, because FAT counts in twos. */
  modifiedSeconds: number
  modifiedNanoseconds: number
  /** Of a file: what is written where; the rest are holes. */
  pieces: [offset: number, bytes: Buffer][]
  sizeBytes: number
  /** Of a symbolic link. */
  target: string | null
  /** Of a hard link: path of the file that it is another name for. */
  linkTo: string | null
}

/** What a test expects of one path. `null`: this file system does not keep it, or its maker did not choose it. */
export interface GoldenEntry {
  path: string
  kind: FileKind
  mode: number | null
  sizeBytes: number
  modifiedSeconds: number | null
  modifiedNanoseconds: number | null
  links: number | null
  target: string | null
  /** Of a file's content, holes included; `null` for anything else, and where nobody knows it. */
  sha256: string | null
}

/** What a file system keeps of what was planned. */
export interface Keeps {
  modes: boolean
  times: boolean
  nanoseconds: boolean
  links: boolean
}

export function goldenEntries(planned: readonly PlannedFile[], keeps: Keeps): GoldenEntry[] {
  const byPath = new Map(planned.map((file) => [file.path, file]))
  const namesOf = Map.groupBy(planned, (file) => file.linkTo ?? file.path)
  return planned.map((file) => {
    const original = byPath.get(file.linkTo ?? file.path) ?? file
    const hasTime = keeps.times && file.kind !== 'symlink'
    return {
      path: file.path,
      kind: original.kind,
      mode: keeps.modes && file.kind !== 'symlink' ? original.mode : null,
      sizeBytes: original.sizeBytes,
      modifiedSeconds: hasTime ? original.modifiedSeconds : null,
      modifiedNanoseconds: hasTime && keeps.nanoseconds ? original.modifiedNanoseconds : null,
      links: keeps.links && original.kind === 'file' ? (namesOf.get(original.path)?.length ?? 1) : null,
      target: original.target,
      sha256: original.kind === 'file' ? sha256Of(original) : null,
    }
  })
}

function sha256Of({ pieces, sizeBytes }: PlannedFile): string {
  const hash = createHash('sha256')
  let at = 0
  for (const [offset, bytes] of pieces) {
    hash.update(Buffer.alloc(offset - at)).update(bytes)
    at = offset + bytes.length
  }
  return hash.update(Buffer.alloc(sizeBytes - at)).digest('hex')
}
