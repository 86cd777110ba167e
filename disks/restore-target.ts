/** The file that a restore writes, open for as long as it takes: how threads write to it, and how it becomes durable. */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'
import { checkImage } from '../tools/qemu-img.ts'
import { NbdConnection } from './nbd/nbd-connection.ts'
import { identityOf, isSameFile, onTarget, replacedMeanwhile, type RestoreFiles } from './restore-files.ts'
import type { FileIdentity, RestoreIdentity } from './restore-journal.ts'
import { imageFailure, type SinkTarget } from './restore-sink.ts'
import { serveTarget } from './serve.ts'

/** A flush waits for the storage to have written everything: minutes on a slow one. */
const FLUSH_TIMEOUT_MS = 300_000

export interface RestoreTarget {
  /** For the threads. */
  sink: SinkTarget
  /** Makes everything durable that was written before the call. */
  sync(): Promise<void>
}

export interface RestoreTargetOptions {
  files: RestoreFiles
  identity: RestoreIdentity
  /** Which file the `.partial` has to be. */
  file: FileIdentity
  runFolder: string
  signal: AbortSignal
}

/** Runs `work` with the `.partial` open; afterwards it is closed, whatever came of it. */
export async function withRestoreTarget<T>(
  options: RestoreTargetOptions,
  work: (target: RestoreTarget) => Promise<T>,
): Promise<T> {
  return options.identity.targetFormat === 'raw' ? withRawFile(options, work) : withImage(options, work)
}

async function withRawFile<T>(
  { files, file: expected }: RestoreTargetOptions,
  work: (target: RestoreTarget) => Promise<T>,
): Promise<T> {
  const path = files.partial
  const file = await onTarget(path, () => open(path, constants.O_RDWR | constants.O_NOFOLLOW))
  try {
    const { dev, ino } = await file.stat({ bigint: true })
    if (!isSameFile({ device: String(dev), inode: String(ino) }, expected)) throw replacedMeanwhile(path)
    return await work({ sink: { type: 'raw', path, file: expected }, sync: () => onTarget(path, () => file.sync()) })
  } finally {
    await file.close()
  }
}

async function withImage<T>(
  { files, file, runFolder, signal }: RestoreTargetOptions,
  work: (target: RestoreTarget) => Promise<T>,
): Promise<T> {
  const path = files.partial
  const served = await serveTarget(path, { backing: null, compression: 'none' }, { runFolder, signal })
  try {
    if (!isSameFile(await identityOf(path), file)) throw replacedMeanwhile(path)
    // Its own connection and no signal: the last flush comes after an abort.
    const connection = await NbdConnection.connect(served.endpoint, { requestTimeoutMs: FLUSH_TIMEOUT_MS })
    try {
      const sync = async (): Promise<void> => {
        await connection.flush().catch((error: unknown) => {
          throw imageFailure(path, error)
        })
      }
      return await work({ sink: { type: 'qcow2', path, endpoint: served.endpoint }, sync })
    } finally {
      await connection.close()
    }
  } finally {
    await served.close()
  }
}

/**
 * Gives back the space that blocks written twice around a crash left in an image, and proves that its metadata is in order:
 * `DISK_WRITE_FAILED` (retryable) when it is not.
 */
export async function tidyImage(path: string, signal: AbortSignal | undefined): Promise<void> {
  let check = await checkImage(path, { signal })
  if (check.leaks > 0) check = await checkImage(path, { repairLeaks: true, signal })
  if (check.corruptions === 0) return
  throw new HoldfastError(
    'DISK_WRITE_FAILED',
    `"${path}" has ${check.corruptions} broken references after it was written. Check its disk; the restore starts again.`,
    { details: { path, corruptions: check.corruptions } },
  )
}
