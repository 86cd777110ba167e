/** `fallocate`: gives a file space that is really its own. */
import { HoldfastError } from '../domain/errors.ts'
import { runTool } from './run-tool.ts'

const TIMEOUT_MS = 30_000

/**
 * Makes the file, or lengthens it, to `sizeBytes` with blocks that the file system keeps for it. Returns false where the file system cannot do
 * that at once, as CIFS and older NFS; `TOOL_FAILED` with its words for everything else, a full file system included.
 */
export async function fallocate(path: string, sizeBytes: number): Promise<boolean> {
  try {
    await runTool('fallocate', ['--length', String(sizeBytes), path], { timeoutMs: TIMEOUT_MS })
    return true
  } catch (error) {
    if (error instanceof HoldfastError && /not supported/i.test(error.message)) return false
    throw error
  }
}
