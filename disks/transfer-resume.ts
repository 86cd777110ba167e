/** Whether an earlier attempt can be continued. */
import { setTimeout as delay } from 'node:timers/promises'
import { BLOCK_SIZE_BYTES } from '../domain/blocks.ts'
import { HoldfastError } from '../domain/errors.ts'
import { checkImage, isFormatError, type ImageCheck } from '../tools/qemu-img.ts'
import { isResumable } from './block-hashes-writer.ts'
import { readCheckpoint, type Checkpoint, type TransferIdentity } from './journal.ts'
import { Qcow2FormatError, readQcow2Header } from './qcow2-header.ts'
import type { TransferFiles } from './transfer.ts'

/** A killed predecessor's server holds the image's lock until the kernel has buried it. */
const LOCK_PATIENCE_MS = 10_000
const LOCK_POLL_MS = 100

/**
 * The newest checkpoint of this very transfer whose files are sound; `null`: start again, which deletes what is there. So only files that
 * are missing or damaged for certain are a reason. Trouble that may pass is thrown: `SOURCE_BUSY` (another process still writes the
 * image), `DISK_WRITE_FAILED` (the image cannot be checked), errors of the file system.
 */
export async function findCheckpoint(
  files: TransferFiles,
  identity: TransferIdentity,
  signal: AbortSignal | undefined,
): Promise<Checkpoint | null> {
  const checkpoint = await readCheckpoint(files.journal, identity)
  if (checkpoint === null) return null
  const firstIndex = Math.ceil(checkpoint.positionBytes / BLOCK_SIZE_BYTES)
  if (!(await isResumable(files.blocks, identity.sizeBytes, firstIndex))) return null
  if (!(await isWritableQcow2(files.image))) return null
  const check = await checkUnlocked(files.image, signal)
  return check !== null && check.corruptions === 0 ? checkpoint : null
}

async function isWritableQcow2(path: string): Promise<boolean> {
  try {
    // QEMU marks an image that it found corrupt, and does not write to it any more.
    return (await readQcow2Header(path)).header.unexpectedFeatures.length === 0
  } catch (error) {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    if (isMissing || error instanceof Qcow2FormatError) return false
    throw error
  }
}

/** `null`: QEMU finds the image's metadata beyond repair. */
async function checkUnlocked(path: string, signal: AbortSignal | undefined): Promise<ImageCheck | null> {
  const deadline = performance.now() + LOCK_PATIENCE_MS
  for (;;) {
    try {
      return await checkImage(path, { signal })
    } catch (error) {
      if (isFormatError(error)) return null
      if (error instanceof HoldfastError && error.code === 'TOOL_FAILED') throw uncheckable(path, error)
      const isBusy = error instanceof HoldfastError && error.code === 'SOURCE_BUSY'
      if (!isBusy || performance.now() > deadline) throw error
      signal?.throwIfAborted()
      await delay(LOCK_POLL_MS)
    }
  }
}

function uncheckable(path: string, cause: HoldfastError): HoldfastError {
  return new HoldfastError(
    'DISK_WRITE_FAILED',
    `"${path}" of an earlier attempt could not be checked: ${cause.message} Check the repository's storage.`,
    { details: { path }, cause },
  )
}
