/** Pages of folders. */
import { namesOfPath, pathOfNames } from '../domain/file-path.ts'
import type { Entry } from '../mounts/file-reader.ts'
import { rfc3339 } from './file-times.ts'
import type { MountTree } from './mount-tree.ts'
import type { FilePage, MountedFile } from './mounted-file.ts'

/** Of the paths and targets of a page: deep folders have long ones, and a page is held in memory in several forms. */
const PAGE_CHARACTERS = 8 * 1024 * 1024

/** What the tree throws for the folder. A page that would be too long has fewer entries than were asked for, at least one. A single entry that cannot be read says so in its `problem`. */
export async function listFolder(
  tree: MountTree,
  path: string,
  page: { first: number; most: number },
  signal?: AbortSignal,
): Promise<FilePage> {
  const folder = pathOfNames(namesOfPath(path))
  const { total, entries } = await tree.list(folder, page, signal)
  const files: MountedFile[] = []
  let characters = 0
  for (const entry of entries) {
    const file = mountedFile(childPath(folder, entry.name), entry)
    characters += file.path.length + file.name.length + (file.target?.length ?? 0)
    if (characters > PAGE_CHARACTERS && files.length > 0) break
    files.push(file)
  }
  return { path: folder, total, files }
}

export function childPath(folder: string, name: string): string {
  return folder === '/' ? `/${name}` : `${folder}/${name}`
}

export function mountedFile(path: string, { name, status, problem }: Entry): MountedFile {
  return {
    name,
    path,
    kind: status?.kind ?? 'unknown',
    mode: status?.mode ?? 0,
    uid: status?.uid ?? 0,
    gid: status?.gid ?? 0,
    sizeBytes: status?.sizeBytes ?? 0,
    modified: status ? rfc3339(status.modifiedSeconds, status.modifiedNanoseconds) : null,
    target: status?.target ?? null,
    problem,
  }
}
