/** Restores a disk to a new file, with every block compared with its birth hash before it is written; resumable, never over another file. */
import { HoldfastError } from '../domain/errors.ts'
import type { Progress } from '../domain/progress.ts'
import { hashRootOf } from './blocks-file.ts'
import { blocksPath, type ChainLink } from './chain.ts'
import { runInThread } from './disk-thread.ts'
import { RangeClaims } from './range-claims.ts'
import { RateMeter } from './rate-meter.ts'
import { restoreFiles, type RestoreFiles } from './restore-files.ts'
import type { FileIdentity, RestoreIdentity } from './restore-journal.ts'
import { RestoreCheckpoints } from './restore-checkpoints.ts'
import { publishTarget } from './restore-publication.ts'
import { beginRestore } from './restore-resume.ts'
import { tidyImage, withRestoreTarget, type RestoreTarget } from './restore-target.ts'
import type { RestoreWork } from './restore-thread.ts'
import { serveChain, type ServedDisk } from './serve.ts'

export { checkRestoreTarget } from './restore-files.ts'
export { discardRestore } from './restore-publication.ts'

export interface RestoreRequest {
  /** Attempts under one id continue each other. Another id at the same target is refused: `RESTORE_TARGET_EXISTS`. */
  restoreId: string
  /** Oldest first; the disk is restored as it was in the last one. */
  links: readonly ChainLink[]
  /** Absolute; must not exist, its folder must. */
  targetPath: string
  targetFormat: 'raw' | 'qcow2'
  /** For sockets; short. */
  runFolder: string
  checkpointIntervalMs: number
  checkpointIntervalBytes: number
}

export interface RestoreProgress extends Progress {
  resumedAtBytes: number
  /** Everything below is durable and survives any crash. */
  checkpointBytes: number
  /** Bytes of the disk dealt with per second, over the last seconds. */
  ratePerSecond: number
}

export interface RestoreOptions {
  signal?: AbortSignal | undefined
  onProgress?: ((progress: RestoreProgress) => void) | undefined
}

export interface RestoreResult {
  /** The disk's size: all of it is in the file, and was compared. */
  restoredBytes: number
  /** Where this attempt began; 0 unless an earlier one was continued. */
  resumedAtBytes: number
}

const threadScript = new URL('./restore-thread.ts', import.meta.url)
const THREADS = 2
const RANGES_PER_THREAD = 2
const CHECKPOINT_POLL_MAX_MS = 250

/**
 * On return the target is complete, durable and under its name; the journal is gone.
 *
 * Safe to repeat after any crash or failure: goes on from the journal beside the target when it is of the same disk of the same backup.
 * On abort it makes what it has durable, stops its servers, leaves `<target>.partial` and rejects with `signal.reason`.
 *
 * Throws `BACKUP_CORRUPT` (with backup, disk and offset; the target does not appear), `CORRUPT_CHAIN`, `RESTORE_TARGET_INVALID`,
 * `RESTORE_TARGET_EXISTS`, `INSUFFICIENT_STORAGE`; retryable: `DISK_READ_FAILED`, `DISK_WRITE_FAILED`, `REPO_UNAVAILABLE`, `NBD_*`.
 */
export async function restoreDiskTo(request: RestoreRequest, options: RestoreOptions = {}): Promise<RestoreResult> {
  options.signal?.throwIfAborted()
  const newest = request.links.at(-1)
  if (!newest) throw new HoldfastError('CORRUPT_CHAIN', 'The chain is empty: there is nothing to restore.')
  const files = restoreFiles(request.targetPath)
  const restoredBytes = newest.disk.size_bytes
  await requireTrustedHashes(newest, options.signal)
  const identity = identityOf(newest, request)
  const start = await beginRestore(files, identity, options.signal)
  if (start.isPublished) return { restoredBytes, resumedAtBytes: restoredBytes }
  await copyBlocks({ request, newest, files, identity, file: start.file, startBytes: start.reachedBytes }, options)
  if (request.targetFormat === 'qcow2') await tidyImage(files.partial, options.signal)
  await publishTarget(files, request.restoreId, start.file)
  return { restoredBytes, resumedAtBytes: start.reachedBytes }
}

interface RestorePlan {
  request: RestoreRequest
  newest: ChainLink
  files: RestoreFiles
  identity: RestoreIdentity
  /** The `.partial`. */
  file: FileIdentity
  startBytes: number
}

function identityOf({ backupId, disk }: ChainLink, { restoreId, targetFormat }: RestoreRequest): RestoreIdentity {
  const { index: diskIndex, blocks_sha256: blocksSha256, size_bytes: sizeBytes } = disk
  return { restoreId, backupId, diskIndex, blocksSha256, sizeBytes, targetFormat }
}

async function requireTrustedHashes(link: ChainLink, signal: AbortSignal | undefined): Promise<void> {
  const found = await hashRootOf(link, signal)
  if (found === link.disk.blocks_sha256) return
  throw new HoldfastError(
    'BACKUP_CORRUPT',
    `Backup ${link.backupId} cannot be restored: SHA-256 of "${blocksPath(link)}" is ${found}, the manifest says ${link.disk.blocks_sha256}.`,
    { details: { backup_id: link.backupId, disk_index: link.disk.index, path: blocksPath(link) } },
  )
}

/** Copies from the start to the end of the disk; when it returns or throws, the journal says how much of it is durable. */
async function copyBlocks(plan: RestorePlan, options: RestoreOptions): Promise<void> {
  const { request, files, identity, file, startBytes } = plan
  const stop = new AbortController()
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal
  const served = await serveChain(request.links, { runFolder: request.runFolder, signal })
  try {
    await withRestoreTarget({ files, identity, file, runFolder: request.runFolder, signal }, async (target) => {
      const claims = RangeClaims.create(identity.sizeBytes, startBytes, THREADS * RANGES_PER_THREAD)
      const checkpoints = new RestoreCheckpoints({ ...request, ...plan, sync: () => target.sync(), claims })
      const pollMs = Math.min(CHECKPOINT_POLL_MAX_MS, request.checkpointIntervalMs)
      const polling = setInterval(() => checkpoints.consider((error) => stop.abort(error)), pollMs)
      try {
        await runThreads(plan, { served, target, claims, checkpoints }, { ...options, signal, stop })
      } catch (error) {
        // What was achieved is worth keeping; why it stopped is what matters, not whether this works.
        await checkpoints.finish().catch(() => {})
        throw error
      } finally {
        clearInterval(polling)
      }
      await checkpoints.finish()
      requireWhole(checkpoints.durableBytes, identity.sizeBytes)
    })
  } finally {
    await served.close()
  }
}

/** A target never gets its name for anything less. */
function requireWhole(durableBytes: number, sizeBytes: number): void {
  if (durableBytes === sizeBytes) return
  throw new HoldfastError('INTERNAL', `Only ${durableBytes} of ${sizeBytes} bytes were restored although no thread failed.`)
}

interface Running {
  served: ServedDisk
  target: RestoreTarget
  claims: RangeClaims
  checkpoints: RestoreCheckpoints
}

async function runThreads(
  plan: RestorePlan,
  running: Running,
  options: RestoreOptions & { signal: AbortSignal; stop: AbortController },
): Promise<void> {
  const { served, target, claims, checkpoints } = running
  const meter = new RateMeter()
  const parts = Array.from({ length: THREADS }, () => ({ processedBytes: 0, writtenBytes: 0 }))
  const threads = parts.map((_, thread) => {
    const slots = Array.from({ length: RANGES_PER_THREAD }, (_, slot) => thread * RANGES_PER_THREAD + slot)
    const { backupId, disk } = plan.newest
    const task = {
      backupId,
      diskIndex: disk.index,
      source: served.endpoint,
      target: target.sink,
      blocksPath: blocksPath(plan.newest),
    }
    const onReport = (part: RestoreWork['report']): void => {
      parts[thread] = part
      const sum = (key: keyof typeof part): number => parts.reduce((total, one) => total + one[key], 0)
      const processedBytes = plan.startBytes + sum('processedBytes')
      options.onProgress?.({
        processedBytes,
        totalBytes: disk.size_bytes,
        writtenBytes: sum('writtenBytes'),
        resumedAtBytes: plan.startBytes,
        checkpointBytes: checkpoints.durableBytes,
        ratePerSecond: meter.add(performance.now(), processedBytes),
      })
    }
    return runInThread<RestoreWork>(threadScript, { ...task, claims: claims.shared, slots }, { signal: options.signal, onReport })
  })
  for (const thread of threads) thread.catch((error: unknown) => options.stop.abort(error))
  await Promise.allSettled(threads)
  options.signal.throwIfAborted()
}
