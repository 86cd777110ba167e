/** A folder and everything below it as one stream: zip or tar.gz. Links are links in it, and what cannot be read is listed at its end. */
import { namesOfPath, pathOfNames } from '../domain/file-path.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { FileStatus } from '../mounts/file-reader.ts'
import { openContent } from './archive-content.ts'
import type { ContentOptions } from './archive-content.ts'
import { archivePath, topFolder } from './archive-names.ts'
import type { ArchiveFormat } from './archive-names.ts'
import { ArchiveReport } from './archive-report.ts'
import { ArchiveWriter } from './archive-writer.ts'
import type { ArchiveEntry } from './archive-writer.ts'
import { walkFolder } from './folder-walk.ts'
import type { Step } from './folder-walk.ts'
import { inAdvance } from './in-advance.ts'
import type { MountTree } from './mount-tree.ts'

/** Files that are opened while the one before them is written: small ones cost a reader's answering time each. */
const OPENED_AHEAD = 4
/** Of memory, for each entry of a zip besides its name; and for all of them. */
const ZIP_ENTRY_BYTES = 1_024
const ZIP_INDEX_MAX_BYTES = 512 * 1024 * 1024

/**
 * The archive's bytes. Memory stays the same however much the folder holds, but for a zip's list of entries (about 1 KiB each). Ends with the error when the
 * mount goes away. Leaving the iteration, or the signal, ends all work at once.
 */
export async function* archiveFolder(
  tree: MountTree,
  path: string,
  format: ArchiveFormat,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const left = new AbortController()
  const either = AbortSignal.any([signal, left.signal])
  const writer = new ArchiveWriter(format)
  const feeding = feed(writer, path, { tree, format, report: new ArchiveReport(), signal: either }).catch((error: unknown) =>
    writer.fail(error),
  )
  try {
    yield* writer.bytes()
  } finally {
    left.abort()
    writer.fail(left.signal.reason)
    await feeding
  }
}

async function feed(writer: ArchiveWriter, path: string, options: ContentOptions): Promise<void> {
  const names = namesOfPath(path)
  const folder: Folder = { names, top: topFolder(names) }
  const { tree, format, report, signal } = options
  const status = await tree.status(path, signal)
  await writer.add({ path: archivePath(format, folder.top, []), type: 'directory', status, content: Buffer.alloc(0) })
  const prepare = (step: Step): Promise<ArchiveEntry | null> => prepareEntry(step, folder, options)
  const index = new ZipIndex()
  for await (const entry of inAdvance(walkFolder(tree, path, signal), prepare, OPENED_AHEAD)) {
    if (!entry) continue
    if (format === 'zip') index.add(entry.path)
    await writer.add(entry)
  }
  const text = report.text()
  if (text !== null) {
    const told: FileStatus = { ...status, kind: 'file', mode: 0o644, sizeBytes: Buffer.byteLength(text) }
    await writer.add({
      path: archivePath(format, folder.top, [report.name]),
      type: 'file',
      status: told,
      content: Buffer.from(text),
    })
  }
  await writer.finish()
}

/** What a zip tells at its end of all that is in it; the library keeps it in memory until then. */
class ZipIndex {
  #bytes = 0

  /** `FILE_READ_FAILED` when it grows beyond what the process can spare: an archive that lacks the rest must not look like one that is complete. */
  add(path: string): void {
    this.#bytes += ZIP_ENTRY_BYTES + 4 * path.length
    if (this.#bytes <= ZIP_INDEX_MAX_BYTES) return
    throw new HoldfastError(
      'FILE_READ_FAILED',
      'The folder holds more files than a zip can be made of here. Download it as tar.gz, or its folders one by one.',
    )
  }
}

interface Folder {
  names: readonly string[]
  top: string
}

/** `null`: it is not in the archive, and the report says so. */
async function prepareEntry(step: Step, folder: Folder, options: ContentOptions): Promise<ArchiveEntry | null> {
  const { report, format } = options
  if (step.type === 'unread') {
    report.add(step.path, `what is in this folder, or the rest of it, is left out: ${step.problem}`)
    return null
  }
  const { status, problem } = step.entry
  // Not checked as a path of a request is: deep trees are told of to their ends.
  const below = step.path.split('/').slice(1 + folder.names.length)
  if (below.length === 1) report.noteName(below[0]!)
  if (!status) {
    report.add(step.path, `left out: ${problem ?? 'it cannot be read'}.`)
    return null
  }
  const path = archivePath(format, folder.top, below)
  switch (status.kind) {
    case 'file': {
      const content = await openContent(step.path, status, options)
      return content && { path, type: 'file', status, content }
    }
    case 'directory':
    case 'symlink':
      return { path, type: status.kind, status, content: Buffer.alloc(0) }
    default:
      report.add(step.path, `left out: it is a ${status.kind}, which has no content.`)
      return null
  }
}

/** How the archive is called. */
export function archiveName(path: string, format: ArchiveFormat): string {
  return `${topFolder(namesOfPath(pathOfNames(namesOfPath(path))))}.${format}`
}
