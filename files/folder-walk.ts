/** Everything below a folder, however deep and however much: nothing is remembered but the folders still to be opened. */
import { HoldfastError } from '../domain/errors.ts'
import { namesOfPath, pathOfNames } from '../domain/file-path.ts'
import type { Entry } from '../mounts/file-reader.ts'
import { childPath } from './listing.ts'
import type { MountTree } from './mount-tree.ts'

/** Few enough for memory; many, because a reader may have to look through the whole folder for every page. */
const PAGE_ENTRIES = 2_000
/**
 * Folders that may wait to be opened: more than trees have that people make. A disk may be made to have a folder that lies in itself, a thousand times; then
 * the rest of where that is told is not opened.
 */
const WAITING_MAX = 100_000

/** A page of a folder that waits: of `folder` when `name` is `null`, else of the folder of that name in it. Names only, for whole paths may be long. */
interface Waiting {
  folder: string
  name: string | null
  first: number
}

/** `unread`: a folder, told of before, whose content (or the rest of it) cannot be listed. */
export type Step = { type: 'entry'; path: string; entry: Entry } | { type: 'unread'; path: string; problem: string }

/**
 * Folders come before what is in them; links are told and not followed. What cannot be read is a step like others: this throws only when the mount is
 * gone, or the signal's reason.
 */
export async function* walkFolder(
  tree: MountTree,
  path: string,
  signal: AbortSignal,
  waitingMost = WAITING_MAX,
): AsyncGenerator<Step, void, void> {
  const waiting: Waiting[] = [{ folder: pathOfNames(namesOfPath(path)), name: null, first: 0 }]
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    signal.throwIfAborted()
    const page = { folder: next.name === null ? next.folder : childPath(next.folder, next.name), first: next.first }
    const found = await readPage(tree, page, signal)
    if (typeof found === 'string') {
      yield { type: 'unread', path: page.folder, problem: found }
      continue
    }
    const first = page.first + found.entries.length
    // Taken up after the folders of this page, which lie above it.
    if (found.entries.length > 0 && first < found.total) waiting.push({ folder: page.folder, name: null, first })
    const folders: Waiting[] = []
    for (const entry of found.entries) {
      yield { type: 'entry', path: childPath(page.folder, entry.name), entry }
      if (entry.status?.kind === 'directory') folders.push({ folder: page.folder, name: entry.name, first: 0 })
    }
    if (waiting.length + folders.length <= waitingMost) waiting.push(...folders.toReversed())
    else yield { type: 'unread', path: page.folder, problem: tooManyFolders(waitingMost) }
  }
}

function tooManyFolders(most: number): string {
  return `more than ${most} folders lie above and beside what is in its folders, so these are not opened. Ask for one of them by itself.`
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
