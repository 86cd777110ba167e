/** The machine that a hypervisor runs on: this one, or one behind SSH. Where QEMU's files and sockets are. */
import { HoldfastError } from '../../domain/errors.ts'

export interface HypervisorHost {
  /** Free bytes of the file system that `folder` lies on. `SOURCE_INVALID` when there is no such folder or it cannot be written to. */
  freeBytes(folder: string): Promise<number>
  /** Names in `folder` that begin with `prefix`; empty when there is no folder. */
  listFiles(folder: string, prefix: string): Promise<string[]>
  /** Idempotent. */
  removeFile(path: string): Promise<void>
  /**
   * What tells whether a file was written to or replaced (device, inode, size, times to the nanosecond; of a block device what was written to it),
   * as one string; `null` when it is gone.
   */
  fingerprint(path: string): Promise<string | null>
  /** Runs `qemu-img` there and returns its standard output. Errors as of the tool. */
  qemuImg(args: readonly string[], options: { timeoutMs: number; signal?: AbortSignal | undefined }): Promise<string>
  /** A socket on this machine through which QEMU's unix socket `socketPath` can be reached; `socketPath` itself where that is here. */
  reach(socketPath: string, options: { runFolder: string; signal?: AbortSignal | undefined }): Promise<ReachedSocket>
  /**
   * Serves an image of a domain that is shut off, read-only and without keeping the domain from starting (no lock), with one persistent
   * bitmap offered as `qemu:dirty-bitmap:<name>`. The server dies with this process.
   */
  serveImage(
    image: ServedImage,
    options: { runFolder: string; signal?: AbortSignal | undefined },
  ): Promise<ReachedSocket & { exportName: string }>
}

export interface ServedImage {
  path: string
  format: string
  /** `file` or `block` */
  sourceType: string
  /** Must be consistent. `null`: none is offered. */
  bitmap: string | null
  /** Begins the name of a socket beside the image's host, so that one which a dead host left is recognised: `holdfast-<backupId>`. */
  socketPrefix: string
}

export interface ReachedSocket {
  path: string
  /** Idempotent. */
  close(): Promise<void>
}

/** `SOURCE_INVALID`: the scratch folder is not there, or nothing can be put into it. */
export function unusableFolder(
  folder: string,
  where: string,
  reason = 'it is not a folder that can be written to',
): HoldfastError {
  return new HoldfastError(
    'SOURCE_INVALID',
    `"${folder}" on ${where} cannot be used: ${reason}. Make it, or give the source connection another "scratch_folder".`,
    { details: { folder } },
  )
}
