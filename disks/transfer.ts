/** Copies one frozen disk into a QCOW2 file: resumable, hashed while it is read, in a worker thread. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Compression } from '../domain/backup.ts'
import { CLUSTER_SIZE_BYTES } from '../domain/blocks.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { Progress } from '../domain/progress.ts'
import type { OpenDisk } from '../sources/source.ts'
import { checkImage, createImage, shrinkImage } from '../tools/qemu-img.ts'
import { blocksPath, checkChain, qcow2SizeBytes, type ChainLink } from './chain.ts'
import { runInThread } from './disk-thread.ts'
import type { Checkpoint, TransferIdentity } from './journal.ts'
import { RateMeter } from './rate-meter.ts'
import { serveTarget } from './serve.ts'
import { whileStaging } from './staging-failure.ts'
import type { CopyProgress } from './transfer-copy.ts'
import { findCheckpoint } from './transfer-resume.ts'
import type { SealWork } from './seal-thread.ts'
import type { CopyWork } from './transfer-thread.ts'

export interface TransferRequest {
  /** The frozen disk, being served. It stays open; closing it is the caller's. */
  source: Pick<OpenDisk, 'endpoint' | 'sizeBytes' | 'changes'>
  /** Names the frozen content: an earlier attempt is continued only if it read the same. */
  snapshotId: string
  target: {
    /** The staging folder (`.partial`). */
    folder: string
    diskIndex: number
    sizeBytes: number
    compression: Compression
    /** The chain that an incremental continues, oldest first; `null` for a full. */
    parent: { links: readonly ChainLink[] } | null
  }
  /** For sockets; short. */
  runFolder: string
  /** Limits what is read from the source; `null`: no limit. */
  rateLimitBytesPerSecond: number | null
  checkpointIntervalMs: number
  checkpointIntervalBytes: number
  /** For each request to the source. Default 60 s. */
  sourceTimeoutMs?: number | undefined
}

export interface TransferProgress extends Progress {
  resumedAtBytes: number
  /** Everything below is durable and survives any crash. */
  checkpointBytes: number
  /** Bytes dealt with per second, over the last seconds. */
  ratePerSecond: number
}

export interface TransferResult {
  processedBytes: number
  /** Data bytes written to the QCOW2 before compression; zeroes do not count. */
  writtenBytes: number
  /** Where this attempt began; 0 unless an earlier one was continued. */
  resumedAtBytes: number
  fileSizeBytes: number
  blocksSha256: string
}

const copyThread = new URL('./transfer-thread.ts', import.meta.url)
const sealThread = new URL('./seal-thread.ts', import.meta.url)

/**
 * On return `disk-<n>.qcow2` and `disk-<n>.blocks` are finished: flushed, synced, checked, with container checksums. The journal stays until the
 * backup is published: whatever fails until then, the disk is not copied again.
 *
 * Safe to repeat after any crash or failure: goes on from the journal when snapshot, parent, size and compression are the same and the
 * image is sound, else starts this disk again. On abort it checkpoints, stops its server and rejects with `signal.reason`.
 *
 * Throws `DISK_READ_FAILED`, `DISK_WRITE_FAILED` (retryable), `INSUFFICIENT_STORAGE`, `CORRUPT_CHAIN`, `SOURCE_CHANGED`, `SOURCE_BUSY`.
 */
export async function transferDisk(
  request: TransferRequest,
  options: { signal?: AbortSignal | undefined; onProgress?: ((progress: TransferProgress) => void) | undefined } = {},
): Promise<TransferResult> {
  const { signal } = options
  signal?.throwIfAborted()
  const parentLink = request.target.parent?.links.at(-1) ?? null
  if (request.target.parent) await checkChain(request.target.parent.links)
  const files = filesOf(request)
  const identity = identityOf(request, parentLink)
  const resume = await whileStaging(request.target.diskIndex, () => findCheckpoint(files, identity, signal))
  if (resume === null) await whileStaging(request.target.diskIndex, () => startAgain(files, request, parentLink, signal))
  const copied = await copyUnlessDone(request, { files, identity, resume, parentLink }, options)
  await finishImage(files, identity, signal)
  const toSeal = {
    diskIndex: request.target.diskIndex,
    imagePath: files.image,
    blocksPath: files.blocks,
    sizeBytes: identity.sizeBytes,
  }
  const sealed = await runInThread<SealWork>(sealThread, toSeal, { signal })
  return { ...sealed, ...copied, resumedAtBytes: resume?.positionBytes ?? 0 }
}

/** Absolute paths of the files of one disk in the staging folder. */
export interface TransferFiles {
  image: string
  blocks: string
  journal: string
}

function filesOf({ target }: TransferRequest): TransferFiles {
  const name = join(target.folder, `disk-${target.diskIndex}`)
  return { image: `${name}.qcow2`, blocks: `${name}.blocks`, journal: `${name}.journal` }
}

function identityOf(request: TransferRequest, parentLink: ChainLink | null): TransferIdentity {
  const { sizeBytes, compression } = request.target
  return { snapshotId: request.snapshotId, parentBackupId: parentLink?.backupId ?? null, sizeBytes, compression }
}

/** QEMU compresses whole clusters only, so a compressed image is a whole number of them until it is finished. */
function workingSizeBytes({ sizeBytes, compression }: TransferIdentity): number {
  return compression === 'zstd' ? Math.ceil(sizeBytes / CLUSTER_SIZE_BYTES) * CLUSTER_SIZE_BYTES : qcow2SizeBytes(sizeBytes)
}

async function startAgain(
  files: TransferFiles,
  request: TransferRequest,
  parentLink: ChainLink | null,
  signal: AbortSignal | undefined,
): Promise<void> {
  // The journal first: without it nothing claims that the others hold anything.
  for (const path of [files.journal, files.image, files.blocks]) await rm(path, { force: true })
  await createImage({
    path: files.image,
    sizeBytes: workingSizeBytes(identityOf(request, parentLink)),
    compression: request.target.compression,
    // Right from the moment the folder is published beside its parent's.
    backing: parentLink === null ? null : { name: `../${parentLink.backupId}/${parentLink.disk.file}`, format: 'qcow2' },
    signal,
  })
}

interface CopyPlan {
  files: TransferFiles
  identity: TransferIdentity
  resume: Checkpoint | null
  parentLink: ChainLink | null
}

async function copyUnlessDone(
  request: TransferRequest,
  plan: CopyPlan,
  options: Parameters<typeof transferDisk>[1] & object,
): Promise<{ processedBytes: number; writtenBytes: number }> {
  const { sizeBytes } = plan.identity
  // An earlier attempt got to the end of the copy or of everything; its image may already have its final size, which cannot be served for compression.
  if (plan.resume?.positionBytes === sizeBytes) return { processedBytes: sizeBytes, writtenBytes: plan.resume.writtenBytes }
  const backing = request.target.parent?.links ?? null
  const { compression } = plan.identity
  const served = await serveTarget(
    plan.files.image,
    { backing, compression },
    { runFolder: request.runFolder, signal: options.signal },
  )
  try {
    const { processedBytes, writtenBytes } = await copyInThread(request, plan, served.endpoint, options)
    if (processedBytes !== sizeBytes) {
      throw new HoldfastError(
        'INTERNAL',
        `Disk ${request.target.diskIndex}: ${processedBytes} of ${sizeBytes} bytes were dealt with.`,
      )
    }
    return { processedBytes, writtenBytes }
  } finally {
    await served.close()
  }
}

function copyInThread(
  request: TransferRequest,
  plan: CopyPlan,
  target: OpenDisk['endpoint'],
  options: Parameters<typeof transferDisk>[1] & object,
): Promise<CopyProgress> {
  const { files, identity, resume, parentLink } = plan
  const resumedAtBytes = resume?.positionBytes ?? 0
  const meter = new RateMeter()
  return runInThread<CopyWork>(
    copyThread,
    {
      diskIndex: request.target.diskIndex,
      identity,
      source: request.source.endpoint,
      changes: request.source.changes,
      target,
      blocksPath: files.blocks,
      journalPath: files.journal,
      parent: parentLink === null ? null : parentOf(parentLink),
      resume,
      rateLimitBytesPerSecond: request.rateLimitBytesPerSecond,
      checkpointIntervalMs: request.checkpointIntervalMs,
      checkpointIntervalBytes: request.checkpointIntervalBytes,
      sourceTimeoutMs: request.sourceTimeoutMs ?? null,
    },
    {
      signal: options.signal,
      onReport: (progress) =>
        options.onProgress?.({
          ...progress,
          resumedAtBytes,
          ratePerSecond: meter.add(performance.now(), progress.processedBytes),
        }),
    },
  )
}

function parentOf(link: ChainLink): { backupId: string; sizeBytes: number; blocksPath: string; blocksSha256: string } {
  return {
    backupId: link.backupId,
    sizeBytes: link.disk.size_bytes,
    blocksPath: blocksPath(link),
    blocksSha256: link.disk.blocks_sha256,
  }
}

/** Gives the image its exact size and proves that its metadata is in order. */
async function finishImage(files: TransferFiles, identity: TransferIdentity, signal: AbortSignal | undefined): Promise<void> {
  const sizeBytes = qcow2SizeBytes(identity.sizeBytes)
  if (workingSizeBytes(identity) !== sizeBytes) await shrinkImage(files.image, sizeBytes, { signal })
  let check = await checkImage(files.image, { signal })
  // Blocks that were written twice around a crash leave space behind that nothing refers to.
  if (check.leaks > 0) check = await checkImage(files.image, { repairLeaks: true, signal })
  if (check.corruptions > 0) {
    throw new HoldfastError(
      'DISK_WRITE_FAILED',
      `"${files.image}" has ${check.corruptions} broken references after it was written. Check the repository's storage.`,
      { details: { path: files.image, corruptions: check.corruptions } },
    )
  }
}
