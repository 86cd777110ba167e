/** Looks for files by name, and tells of each as it is found. */
import { mountedFile } from './listing.ts'
import { walkFolder } from './folder-walk.ts'
import type { Step } from './folder-walk.ts'
import type { MountTree } from './mount-tree.ts'
import type { SearchLine, SearchSummary } from './mounted-file.ts'
import { nameMatcher } from './name-match.ts'

export interface SearchBounds {
  results: number
  entries: number
  timeMs: number
}

export const SEARCH_RESULTS_MAX = 10_000
export const searchBounds: SearchBounds = { results: 1_000, entries: 2_000_000, timeMs: 60_000 }

/**
 * Looks below the folder, not into links. The last line is always the summary; when the mount goes away there is none, because this throws. See
 * {@link walkFolder}.
 */
export async function* searchFolder(
  tree: MountTree,
  wanted: { path: string; name: string },
  signal: AbortSignal,
  bounds: SearchBounds = searchBounds,
): AsyncGenerator<SearchLine, void, void> {
  const matches = nameMatcher(wanted.name)
  const summary: SearchSummary = { searched: 0, found: 0, problems: 0, complete: true, stoppedBy: null }
  const time = AbortSignal.timeout(bounds.timeMs)
  try {
    for await (const step of walkFolder(tree, wanted.path, AbortSignal.any([signal, time]))) {
      summary.stoppedBy = stopReason(summary, bounds, time)
      if (summary.stoppedBy !== null) break
      if (countStep(summary, step) && matches(step.entry.name)) {
        if (summary.found >= bounds.results) {
          summary.stoppedBy = 'results'
          break
        }
        summary.found++
        yield { type: 'file', file: mountedFile(step.path, step.entry) }
      }
    }
  } catch (error) {
    if (!time.aborted || signal.aborted) throw error
    summary.stoppedBy = 'time'
  }
  yield { type: 'summary', ...summary, complete: summary.stoppedBy === null }
}

/** Whether it is something with a name to look at. */
function countStep(summary: SearchSummary, step: Step): step is Extract<Step, { type: 'entry' }> {
  if (step.type === 'unread' || !step.entry.status) summary.problems++
  if (step.type === 'unread') return false
  summary.searched++
  return true
}

function stopReason(summary: SearchSummary, bounds: SearchBounds, time: AbortSignal): SearchSummary['stoppedBy'] {
  if (time.aborted) return 'time'
  return summary.searched >= bounds.entries ? 'entries' : null
}
