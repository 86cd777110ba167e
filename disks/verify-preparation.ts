/** What is looked at before a disk is read back: are the hashes those of the manifest, and does the chain open? */
import { access } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'
import { hashRootOf } from './blocks-file.ts'
import { blocksPath, type ChainLink } from './chain.ts'
import { serveChain, type ServedDisk } from './serve.ts'

export interface BlocksFileFault {
  message: string
  /** There is nothing to compare with: missing, cut, or not of this disk. */
  isUseless: boolean
}

/** What is wrong with a link's blocks file; `null`: it is the one that the manifest names. `REPO_UNAVAILABLE` when it cannot be read. */
export async function findBlocksFileFault(
  link: ChainLink,
  newest: ChainLink,
  signal: AbortSignal | undefined,
): Promise<BlocksFileFault | null> {
  const path = blocksPath(link)
  try {
    const found = await hashRootOf(link, signal)
    if (found === link.disk.blocks_sha256) return null
    return {
      message: `The blocks file "${path}" of backup ${link.backupId} was changed: its SHA-256 is ${found}, the manifest says ${link.disk.blocks_sha256}.`,
      isUseless: false,
    }
  } catch (error) {
    if (!(error instanceof HoldfastError) || error.code !== 'BACKUP_CORRUPT') throw error
    await requireRepository(newest, error)
    return { message: error.message, isUseless: true }
  }
}

/** Failures that say something about the chain or its server; whether they are damage is judged when everything was seen. */
const telling = new Set(['CORRUPT_CHAIN', 'TOOL_FAILED'])

/** Runs `work` on the served chain. Returns the failure when the chain does not open or its server is lost; throws what is no answer. */
export async function openedChain<T>(
  request: { links: readonly ChainLink[]; runFolder: string },
  signal: AbortSignal | undefined,
  work: (served: ServedDisk) => Promise<T>,
): Promise<T | HoldfastError> {
  try {
    const served = await serveChain(request.links, { runFolder: request.runFolder, signal })
    try {
      return await work(served)
    } finally {
      await served.close()
    }
  } catch (error) {
    signal?.throwIfAborted()
    if (!(error instanceof HoldfastError) || !(telling.has(error.code) || error.code.startsWith('NBD_'))) throw error
    await requireRepository(request.links.at(-1), error)
    return error
  }
}

/**
 * A file or a parent that is missing is damage; a whole repository that is missing is a share that is not mounted. The newest backup's
 * manifest was read a moment ago: if its folder is gone too, nothing is known about the backup.
 */
async function requireRepository(newest: ChainLink | undefined, cause: HoldfastError): Promise<void> {
  const folder = newest?.folder ?? ''
  try {
    await access(folder)
  } catch {
    throw new HoldfastError('REPO_UNAVAILABLE', `"${folder}" is gone. Check that the repository is mounted.`, {
      cause,
      details: { path: folder },
    })
  }
}
