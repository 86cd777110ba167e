/** The content of files for an archive, which must go on when one of them cannot be read. */
import { Readable } from 'node:stream'
import type { FileStatus } from '../mounts/file-reader.ts'
import type { ArchiveFormat } from './archive-names.ts'
import type { ArchiveReport } from './archive-report.ts'
import { isOfThisPlace } from './folder-walk.ts'
import type { MountTree } from './mount-tree.ts'

const ZEROES = Buffer.alloc(256 * 1024)

export interface ContentOptions {
  tree: MountTree
  format: ArchiveFormat
  report: ArchiveReport
  signal: AbortSignal
}

/**
 * Opens a file and reads its first piece. A file that fails before that is told to the report, and `null`. Rejects when the mount is gone, or with the
 * signal's reason; so does the stream.
 */
export async function openContent(path: string, status: FileStatus, options: ContentOptions): Promise<Buffer | Readable | null> {
  const { tree, report, signal } = options
  if (status.sizeBytes === 0) return Buffer.alloc(0)
  try {
    const pieces = tree.read(path, { offset: 0, length: status.sizeBytes }, signal)
    const first = await pieces.next()
    if (first.done === true) {
      report.add(path, `left out: nothing of its ${status.sizeBytes} bytes can be read.`)
      return null
    }
    if (first.value.length === status.sizeBytes) {
      await pieces.return?.()
      return Buffer.from(first.value.buffer, first.value.byteOffset, first.value.byteLength)
    }
    const content = completed(first.value, pieces, path, status.sizeBytes, options)
    // One piece at a time: the reader reads ahead already.
    return Readable.from(content, { highWaterMark: 1 })
  } catch (error) {
    if (signal.aborted || !isOfThisPlace(error)) throw error
    report.add(path, `left out: ${error.message}`)
    return null
  }
}

/** A tar's header has said how long the file is, so that zeroes take the place of what is missing. In a zip it ends there. */
async function* completed(
  first: Uint8Array,
  rest: AsyncIterableIterator<Uint8Array>,
  path: string,
  sizeBytes: number,
  { format, report, signal }: ContentOptions,
): AsyncGenerator<Uint8Array, void, void> {
  let doneBytes = 0
  let why = 'the file ends there.'
  try {
    yield first
    doneBytes = first.length
    for await (const piece of rest) {
      const wanted = piece.subarray(0, sizeBytes - doneBytes)
      doneBytes += wanted.length
      yield wanted
    }
  } catch (error) {
    if (signal.aborted || !isOfThisPlace(error)) throw error
    why = error.message
  } finally {
    // Also when nobody got as far as the loop.
    await rest.return?.()
  }
  if (doneBytes === sizeBytes) return
  const instead = format === 'zip' ? 'it ends there in this archive' : 'zeroes follow in this archive'
  report.add(path, `damaged after ${doneBytes} of ${sizeBytes} bytes (${instead}): ${why}`)
  if (format === 'zip') return
  for (let left = sizeBytes - doneBytes; left > 0; left -= ZEROES.length) yield ZEROES.subarray(0, Math.min(left, ZEROES.length))
}
