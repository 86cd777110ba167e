/** Pages of folders. */
import { namesOfPath, pathOfNames } from '../domain/file-path.ts'
import type { Entry } from '../mounts/file-reader.ts'
import { rfc3339 } from './file-times.ts'
import type { MountTree } from './mount-tree.ts'
import type { FilePage, MountedFile } from './mounted-file.ts'

/** What the tree throws for the folder. A single entry that cannot be read says so in its `problem`. */
export async function listFolder(
  tree: MountTree,
  path: string,
  page: { first: number; most: number },
  signal?: AbortSignal,
): Promise<FilePage> {
  const folder = pathOfNames(namesOfPath(path))
  const { total, entries } = await tree.list(folder, page, signal)
  return { path: folder, total, files: entries.map((entry) => mountedFile(childPath(folder, entry.name), entry)) }
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
