/** Everything below a folder, however deep and however much: nothing is remembered but the folders still to be opened. */
import { HoldfastError } from '../domain/errors.ts'
import { namesOfPath, pathOfNames } from '../domain/file-path.ts'
import type { Entry } from '../mounts/file-reader.ts'
import { childPath } from './listing.ts'
import type { MountTree } from './mount-tree.ts'

/** Few enough for memory; many, because a reader may have to look through the whole folder for every page. */
const PAGE_ENTRIES = 2_000

/** `unread`: a folder, told of before, whose content (or the rest of it) cannot be listed. */
export type Step = { type: 'entry'; path: string; entry: Entry } | { type: 'unread'; path: string; problem: string }

/**
 * Folders come before what is in them; links are told and not followed. What cannot be read is a step like others: this throws only when the mount is
 * gone, or the signal's reason.
 */
export async function* walkFolder(tree: MountTree, path: string, signal: AbortSignal): AsyncGenerator<Step, void, void> {
  const pages = [{ folder: pathOfNames(namesOfPath(path)), first: 0 }]
  for (let page = pages.pop(); page !== undefined; page = pages.pop()) {
    signal.throwIfAborted()
    const found = await readPage(tree, page, signal)
    if (typeof found === 'string') {
      yield { type: 'unread', path: page.folder, problem: found }
      continue
    }
    const next = page.first + found.entries.length
    // Taken up after the folders of this page, which lie above it.
    if (found.entries.length > 0 && next < found.total) pages.push({ folder: page.folder, first: next })
    const folders: typeof pages = []
    for (const entry of found.entries) {
      const below = childPath(page.folder, entry.name)
      yield { type: 'entry', path: below, entry }
      if (entry.status?.kind === 'directory') folders.push({ folder: below, first: 0 })
    }
    for (const folder of folders.toReversed()) pages.push(folder)
  }
}

/** A page, or why there is none. */
async function readPage(
  tree: MountTree,
  { folder, first }: { folder: string; first: number },
  signal: AbortSignal,
): Promise<{ total: number; entries: Entry[] } | string> {
  try {
    return await tree.list(folder, { first, most: PAGE_ENTRIES }, signal)
  } catch (error) {
    if (signal.aborted || !isOfThisPlace(error)) throw error
    return error.message
  }
}

/** Failures that say nothing about other files. */
export function isOfThisPlace(error: unknown): error is HoldfastError {
  return error instanceof HoldfastError && placeCodes.has(error.code)
}

const placeCodes = new Set([
  'FILE_NOT_FOUND',
  'NOT_A_DIRECTORY',
  'NOT_A_FILE',
  'FILE_READ_FAILED',
  'FILE_PATH_INVALID',
  'FILE_SYSTEM_UNREADABLE',
])
