/** Files on restore mounts as the API shows them. */
import type { z } from '@hono/zod-openapi'
import type { FolderEstimate, MountedFile, SearchLine } from '../../files/mounted-file.ts'
import type { folderEstimateAnswer, mountedFile, searchLine } from '../schemas/restore-files.ts'

/** Clients know two types, for icons: whatever cannot be opened like a folder is a file to them. `kind` says what it is. */
export function fileAnswer(file: MountedFile): z.infer<typeof mountedFile> {
  return {
    name: file.name,
    path: file.path,
    type: file.kind === 'directory' ? 'directory' : 'file',
    kind: file.kind,
    size: file.sizeBytes,
    mode: file.mode.toString(8).padStart(4, '0'),
    modified_time: file.modified,
    is_symlink: file.kind === 'symlink',
    link_target: file.target,
    uid: file.uid,
    gid: file.gid,
    problem: file.problem,
  }
}

export function estimateAnswer(mountId: string, estimate: FolderEstimate): z.infer<typeof folderEstimateAnswer> {
  return {
    success: true,
    mount_id: mountId,
    path: estimate.path,
    file_count: estimate.files,
    folder_count: estimate.folders,
    other_count: estimate.others,
    problem_count: estimate.problems,
    total_bytes: estimate.bytes,
    complete: estimate.complete,
  }
}

export function searchLineAnswer(line: SearchLine): z.infer<typeof searchLine> {
  if (line.type === 'file') return { type: 'file', file: fileAnswer(line.file) }
  const { type, searched, found, problems, complete, stoppedBy } = line
  return { type, searched, found, problems, complete, stopped_by: stoppedBy }
}
