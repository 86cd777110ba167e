/** The content of one file, as an HTTP answer. */
import mime from 'mime'
import { HoldfastError } from '../domain/errors.ts'
import { namesOfPath, pathOfNames } from '../domain/file-path.ts'
import type { ByteRange, FileStatus } from '../mounts/file-reader.ts'
import { rangeOf } from './byte-range.ts'
import { contentDisposition } from './content-disposition.ts'
import type { MountTree } from './mount-tree.ts'
import { isCurrent, mayContinue, validatorsOf } from './validators.ts'
import type { Conditions } from './validators.ts'

export interface DownloadRequest extends Conditions {
  path: string
  method: string
  range: string | undefined
}

export interface Download {
  status: 200 | 206 | 304
  headers: Record<string, string>
  /** `null`: headers only. */
  content: AsyncIterable<Uint8Array> | null
}

/**
 * `NOT_A_FILE`, `RANGE_NOT_SATISFIABLE`, and what the tree throws. The content ends with an error when it cannot be read to the end that the headers
 * promise. Reads nothing before it is asked to. @param now milliseconds since 1970
 */
export async function openDownload(
  tree: MountTree,
  mountId: string,
  request: DownloadRequest,
  now: number,
  signal: AbortSignal,
): Promise<Download> {
  const names = namesOfPath(request.path)
  const path = pathOfNames(names)
  const status = await tree.status(path, signal)
  if (status.kind !== 'file') throw notAFile(path, status)
  const validators = validatorsOf(mountId, path, status, now)
  const common = {
    ETag: validators.etag,
    ...(validators.lastModified !== null && { 'Last-Modified': validators.lastModified }),
    'Accept-Ranges': 'bytes',
    'X-Content-Type-Options': 'nosniff',
  }
  if (isCurrent(validators, request)) return { status: 304, headers: common, content: null }
  const isPart = request.method === 'GET' && mayContinue(validators, request)
  const part = isPart ? rangeOf(request.range, status.sizeBytes) : null
  const range = part ?? { offset: 0, length: status.sizeBytes }
  return {
    status: part ? 206 : 200,
    headers: {
      ...common,
      ...(part && { 'Content-Range': contentRange(part, status.sizeBytes) }),
      ...contentHeaders(names.at(-1) ?? ''),
      'Content-Length': String(range.length),
    },
    content: request.method === 'GET' ? exactly(tree.read(path, range, signal), range.length, path) : null,
  }
}

/** What the browser shall do with it: keep it, under its name, and never show it as a page of ours. */
export function contentHeaders(name: string): Record<string, string> {
  return {
    'Content-Type': mime.getType(name) ?? 'application/octet-stream',
    'Content-Disposition': contentDisposition(name),
    'X-Content-Type-Options': 'nosniff',
  }
}

function contentRange({ offset, length }: ByteRange, sizeBytes: number): string {
  return `bytes ${offset}-${offset + length - 1}/${sizeBytes}`
}

/** A damaged file system may hold less of a file than it says. A client must not take that for the whole. */
async function* exactly(
  content: AsyncIterable<Uint8Array>,
  lengthBytes: number,
  path: string,
): AsyncGenerator<Uint8Array, void, void> {
  let sentBytes = 0
  for await (const piece of content) {
    sentBytes += piece.length
    if (sentBytes > lengthBytes) break
    yield piece
  }
  if (sentBytes === lengthBytes) return
  throw new HoldfastError('FILE_READ_FAILED', `"${path}" ended after ${sentBytes} bytes instead of ${lengthBytes}.`, {
    details: { path },
  })
}

function notAFile(path: string, { kind, target }: FileStatus): HoldfastError {
  const what = {
    file: 'a file',
    directory: 'a folder: download it as an archive',
    symlink: `a symbolic link to "${target}": links are not followed. Download what it names`,
    fifo: 'a named pipe, which has no content',
    socket: 'a socket, which has no content',
    'block-device': 'a device, which has no content here',
    'character-device': 'a device, which has no content here',
  }
  return new HoldfastError('NOT_A_FILE', `"${path}" is ${what[kind]}.`, { details: { path, kind } })
}
