/** What a folder holds, counted before somebody downloads it. */
import { namesOfPath, pathOfNames } from '../domain/file-path.ts'
import { walkFolder } from './folder-walk.ts'
import type { Step } from './folder-walk.ts'
import type { MountTree } from './mount-tree.ts'
import type { FolderEstimate } from './mounted-file.ts'

export interface EstimateBounds {
  timeMs: number
  entries: number
}

/** A person waits for the answer; who needs more has it in the archive. */
const estimateBounds: EstimateBounds = { timeMs: 20_000, entries: 2_000_000 }

/** What the tree throws for the folder itself. */
export async function estimateFolder(
  tree: MountTree,
  path: string,
  signal: AbortSignal,
  bounds: EstimateBounds = estimateBounds,
): Promise<FolderEstimate> {
  const estimate: FolderEstimate = {
    path: pathOfNames(namesOfPath(path)),
    files: 0,
    folders: 0,
    others: 0,
    bytes: 0,
    problems: 0,
    complete: true,
  }
  await tree.list(path, { first: 0, most: 0 }, signal)
  const time = AbortSignal.timeout(bounds.timeMs)
  let looked = 0
  try {
    for await (const step of walkFolder(tree, path, AbortSignal.any([signal, time]))) {
      if (++looked > bounds.entries || time.aborted) return { ...estimate, complete: false }
      count(estimate, step)
    }
    return estimate
  } catch (error) {
    if (!time.aborted || signal.aborted) throw error
    return { ...estimate, complete: false }
  }
}

function count(estimate: FolderEstimate, step: Step): void {
  if (step.type === 'unread' || !step.entry.status) {
    estimate.problems++
    return
  }
  const { kind, sizeBytes } = step.entry.status
  if (kind === 'directory') estimate.folders++
  else if (kind === 'file') {
    estimate.files++
    estimate.bytes += sizeBytes
  } else estimate.others++
}
