import type { BlocksFileWork } from './blocks-file-thread.ts'
import { blocksPath, type ChainLink } from './chain.ts'
import { runInThread } from './disk-thread.ts'

const threadScript = new URL('./blocks-file-thread.ts', import.meta.url)

/**
 * SHA-256 (hex) of a link's blocks file, to be compared with the manifest's. `BACKUP_CORRUPT` when it is missing, damaged or not of this
 * disk, `REPO_UNAVAILABLE` when it cannot be read.
 */
export async function hashRootOf(link: ChainLink, signal: AbortSignal | undefined): Promise<string> {
  const { size_bytes: diskSizeBytes, file_size_bytes: imageSizeBytes } = link.disk
  return runInThread<BlocksFileWork>(threadScript, { path: blocksPath(link), diskSizeBytes, imageSizeBytes }, { signal })
}
